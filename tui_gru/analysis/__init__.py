"""What the numbers mean: findings, units, losses, influence, what-if, checks and the report."""
