"""What networks make of one image, side by side."""
