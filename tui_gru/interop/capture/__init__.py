"""Capture of the GRUs in a training script by hooks. Only this folder of the project uses torch's modules."""
