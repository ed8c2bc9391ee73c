"""Compilation of a model: operations, a schedule, memory, and generated NumPy code."""
