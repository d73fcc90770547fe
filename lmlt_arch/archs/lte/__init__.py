"""LTE: a decoder for any scale, and the networks that have it (arXiv 2111.08918)."""
