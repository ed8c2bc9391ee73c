"""The only folder that uses private names of Textual: input, order of keys, signals, errors, and the drawn lines.

No other folder uses a private name of Textual. `tests/tui/terminal/test_textual_insides.py` lists each, with the version of
Textual that it was seen in.
"""
