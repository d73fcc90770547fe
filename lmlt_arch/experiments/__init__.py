"""Measurements behind the claims of the papers; the programs are in `scripts/experiments/`."""
