"""Data of a run: texts and tokens cut into batches, or given batches."""
