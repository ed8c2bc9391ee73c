"""Analyses of a network: checks against PyTorch, what-ifs, unit activity, influence, sources of the loss, and findings."""
