"""Long random tests, run by hand: `python -m tests.soak.actions`, `.terminal`, `.kills` and `.files`.

The README lists their results under Reliability.
"""
