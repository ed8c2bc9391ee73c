"""Immutable snapshots of everything that a screen shows of a moment."""
