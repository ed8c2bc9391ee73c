"""The model in PyTorch, computed from the same equations; every number is checked against it."""
