"""The program that is debugged: its lines, their names, positions in it, and steps."""
