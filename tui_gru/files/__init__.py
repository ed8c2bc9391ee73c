"""Read other people's model files, without their frameworks and without running code."""
