"""Sessions on disk, traces, and reports of internal errors."""
