"""What a model is trained on: texts and tokens cut into batches, or given batches."""
