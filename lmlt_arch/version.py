"""The version of this package, apart from its other names so that every room can read it."""

__version__ = "0.1.0"
