"""The command line of the program. Every error is one line."""
