"""The patches, one module for each subject."""
