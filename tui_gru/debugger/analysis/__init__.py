"""Analysis of a network: checks against PyTorch, what-if, units, influence, sources of the loss, and findings."""
