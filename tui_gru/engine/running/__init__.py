"""Execution of a compiled model: records of batches, weights, the trainer, samples."""
