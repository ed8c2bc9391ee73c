"""A debugger for a GRU: step through its training, forwards and backwards in time."""
