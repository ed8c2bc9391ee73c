"""Recordings of training runs: written during the training, read anywhere without torch."""
