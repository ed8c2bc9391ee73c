"""What a network is doing: checks against PyTorch, what-if, units, influence, where the loss is made, and findings."""
