"""Cost of networks: operations, latency and memory."""
