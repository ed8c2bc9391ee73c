"""The stored past of a run: checkpoints, scalars of every batch, and cached records, within a limit of memory."""
