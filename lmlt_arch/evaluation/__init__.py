"""Evaluation of networks: quality on datasets, cost, images side by side."""
