"""Long random tests, run by hand: `python -m tests.soak.actions`, `python -m tests.soak.terminal`, `python -m tests.soak.kills`."""
