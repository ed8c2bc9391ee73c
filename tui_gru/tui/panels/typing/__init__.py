"""Panels for input and answers: the `:` line, its completions, the last row."""
