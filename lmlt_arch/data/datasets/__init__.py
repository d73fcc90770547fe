"""Datasets for BasicSR, and what they have in common."""
