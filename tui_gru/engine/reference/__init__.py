"""The same equations through PyTorch: the reference that every number is checked against."""
