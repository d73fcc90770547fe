"""Preparation of training data by `lmlt prepare`, resumable at every file."""
