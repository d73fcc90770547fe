"""Networks as files that run without this package: ONNX, and programs of `torch.export`."""
