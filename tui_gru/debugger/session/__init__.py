"""The session: its verbs, and the snapshots that a screen draws."""
