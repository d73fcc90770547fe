"""Checks of an option file, one subject a module; `run` calls all of them."""
