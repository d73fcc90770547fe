"""One image upscaled by several networks, side by side, as a picture or a page."""
