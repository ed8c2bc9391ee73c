"""The program being debugged: its lines, names, positions and steps."""
