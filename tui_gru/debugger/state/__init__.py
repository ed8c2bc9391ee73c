"""Everything of a session that survives: breakpoints, marks, hit counts, messages."""
