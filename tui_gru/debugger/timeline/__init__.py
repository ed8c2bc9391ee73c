"""Replay from checkpoints, changes and branches: everything that can be read at a moment."""
