"""Compiles a model: equations to operations, a schedule, memory, and generated NumPy code."""
