"""What is checked of an option file, part by part; `run` calls all of it."""
