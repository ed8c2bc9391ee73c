"""Checks of a run: against PyTorch, against an expected output, for numbers that explode or are not finite."""
