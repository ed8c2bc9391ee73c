"""Replay from checkpoints, changes and branches, and the values that can be read at a moment."""
