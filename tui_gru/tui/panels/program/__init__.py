"""The program and its current line: the listing, the line with its numbers, watches and the log."""
