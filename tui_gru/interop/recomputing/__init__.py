"""Recomputation of captured calls with the compiled equations, and comparison of the results."""
