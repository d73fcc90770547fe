"""A network on inputs of any size: tiles, memory, averages over the whole image."""
