"""Immutable snapshots with everything that a screen shows of a moment."""
