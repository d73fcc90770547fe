"""Image files with all that belongs to them, of any depth and size."""
