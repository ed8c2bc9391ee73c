"""The command line: options in, one of the program's faces out, every mistake answered in one line."""
