"""Where a run stops: breakpoints, watches, log points, and how often each was hit."""
