"""The state of a session that is saved: breakpoints, marks, hit counts, outcomes."""
