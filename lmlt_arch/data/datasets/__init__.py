"""Datasets for BasicSR, their reading, augmentation and order."""
