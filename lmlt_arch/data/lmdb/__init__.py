"""LMDB folders: those that BasicSR reads, and those of raw pixels."""
