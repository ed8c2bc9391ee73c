"""Breakpoints, watches and log points: how they are tested, searched for and counted."""
