"""Findings: problems that a run shows, each with its numbers, its meaning, and the remedy."""
