"""Measuring trained networks: tables, timings, pictures side by side. Nothing here knows of training."""
