"""The last steps of a script's own training loop, computed again from its source, as they were or changed."""
