"""The verbs of the user interface: `table.py` has a row for each, the other files have the functions that the rows name."""
