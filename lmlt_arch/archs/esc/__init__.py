"""ESC, ESC-FP, ESC-Real and ESC-Real-M (arXiv 2503.06671)."""
