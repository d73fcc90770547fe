"""What `lmlt check` looks at besides the options: the data, the first batch, memory and time."""
