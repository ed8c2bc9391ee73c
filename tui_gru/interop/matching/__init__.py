"""Matches the arrays of a file to the parts of a GRU: by name, by a configuration, or by shape."""
