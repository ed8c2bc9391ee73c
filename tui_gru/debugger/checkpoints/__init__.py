"""What is kept of the past: checkpoints, numbers of every batch, records at hand, within a limit of memory."""
