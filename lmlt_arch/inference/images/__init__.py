"""Reading and writing image files: any bit depth and size, with transparency and metadata."""
