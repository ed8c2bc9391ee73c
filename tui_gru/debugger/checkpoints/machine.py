"""The machine, as far as the numbers that it computes may depend on it."""

from __future__ import annotations

import platform

import numpy as np


def this_machine() -> str:
    """What the last bits of a product may depend on, as people name it."""
    return f"NumPy {np.__version__} on {platform.system()} {platform.machine()}"
