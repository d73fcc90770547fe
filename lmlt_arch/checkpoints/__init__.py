"""Checkpoints: reading them safely, recognizing their networks, converting them."""
