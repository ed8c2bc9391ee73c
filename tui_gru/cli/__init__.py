"""The command line of the program. It reports every error in one line."""
