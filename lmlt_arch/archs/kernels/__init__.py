"""Kernels of our own, for what no library kernel fits; each beside a definition that it must equal."""
