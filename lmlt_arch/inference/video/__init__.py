"""Upscaling of videos: decoding, the network and encoding; all other streams are copied."""
