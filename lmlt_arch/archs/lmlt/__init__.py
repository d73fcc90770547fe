"""LMLT (arXiv 2409.03516)."""
