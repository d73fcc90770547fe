"""What `lmlt prepare` does, resumable at every file."""
