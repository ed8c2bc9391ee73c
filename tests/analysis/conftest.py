"""What the tests of this folder share."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(scope="module", autouse=True)
def without_compiled_functions():
    """A script is not taped once its process has compiled something, as a test of another folder may have."""
    if "torch._dynamo" in sys.modules:
        sys.modules["torch"].compiler.reset()
