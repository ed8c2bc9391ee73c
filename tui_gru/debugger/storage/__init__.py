"""Session files, traces, and reports of internal errors."""
