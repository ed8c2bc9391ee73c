"""What a network is doing: units, influence, where the loss is made, and findings. Knows no screen."""
