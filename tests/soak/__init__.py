"""Long random tests, run by hand, such as `python -m tests.soak.actions`. Each writes its result into `reliability.md`."""
