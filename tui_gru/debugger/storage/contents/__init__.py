"""The contents of a session file: its facts and arrays, and how a state is written as them and read from them."""
