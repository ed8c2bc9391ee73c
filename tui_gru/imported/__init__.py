"""Turn model files, captures and recordings into runs."""
