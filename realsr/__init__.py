"""Training of the LMLT and ESC networks for real photographs."""
