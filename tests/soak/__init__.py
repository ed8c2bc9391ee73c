"""Long random tests, run by hand: `python -m tests.soak.actions`, `.terminal`, `.kills` and `.files`.

What they reached is said in the README, under Reliability.
"""
