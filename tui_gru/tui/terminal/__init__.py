"""What the screen needs of Textual beyond its public names: keys and their order, bytes, signals, errors, the drawn lines.

No other folder uses a private name of Textual. `tests/tui/terminal/test_textual_insides.py` lists each, with the version of
Textual that it was seen in.
"""
