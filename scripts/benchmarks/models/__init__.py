"""Models to quantize, of every kind that people train, each small."""
