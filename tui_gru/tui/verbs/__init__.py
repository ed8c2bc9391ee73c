"""What the user can do: `table.py` has a row for each verb, the other files have the functions that the rows name."""
