"""The patches, by what they concern."""
