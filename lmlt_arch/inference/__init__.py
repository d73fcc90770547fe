"""Running trained networks. Nothing here knows of training."""
