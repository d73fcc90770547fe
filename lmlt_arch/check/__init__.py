"""Checks of `lmlt check` besides those of the options: data, first batch, network, memory and time."""
