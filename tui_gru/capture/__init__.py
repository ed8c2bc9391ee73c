"""Follow a module of a running script, and record it."""
