"""What a batch shows beyond its numbers: the check against PyTorch, what-if, the flow of the gradient."""
