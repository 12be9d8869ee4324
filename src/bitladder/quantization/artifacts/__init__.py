"""The files that a quantized run leaves: AOTInductor packages, ONNX, ``torch.export`` programs."""
