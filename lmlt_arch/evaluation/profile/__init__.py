"""What networks cost: operations, latency and memory."""
