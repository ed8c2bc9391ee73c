"""Findings: mistakes that a run shows, each with its numbers, a sentence that says why it matters, and the cure."""
