"""Opening a GRU from a file as a run: its convention as equations, its weights under our names, and its inputs."""
