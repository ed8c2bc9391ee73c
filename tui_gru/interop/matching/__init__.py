"""Matching of the arrays in a file to the parts of a GRU: by name, by a configuration, or by shape."""
