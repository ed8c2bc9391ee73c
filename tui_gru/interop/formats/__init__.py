"""The file formats, one module each, and the table of all."""
