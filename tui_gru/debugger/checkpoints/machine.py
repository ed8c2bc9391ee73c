"""Describes the machine, as far as computed numbers can depend on it."""

from __future__ import annotations

import platform

import numpy as np


def this_machine() -> str:
    """Return the versions that the last bits of a matrix product can depend on: `NumPy 2.1.0 on Linux x86_64`."""
    return f"NumPy {np.__version__} on {platform.system()} {platform.machine()}"
