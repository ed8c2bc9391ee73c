"""Positions in time, history, conditions and the session. Knows the engine and no screen."""
