"""Keep sessions in files."""
