"""Everything that a screen shows of a moment, read once."""
