"""Where the user types and is answered: the `:` line, its completions, the last row."""
