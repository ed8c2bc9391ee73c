"""Which arrays of a file are which part of a GRU: by name, by a configuration, or by shape."""
