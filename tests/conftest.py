import functools
import gc
import itertools
import os
import signal
import sys

import hypothesis
import pytest
from textual.css import stylesheet

from tests.extent import examples

pytest_plugins = ["tests.real_models", "tests.bad_days", "tests.device"]  # fixtures that several folders share

# Compiled modules are kept, as usual, even where the environment says otherwise: each worker would rewrite the assertions of all
# tests, and each program that a test starts would compile all of tui_gru.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Set before NumPy and PyTorch are loaded, as `tui_gru.__main__` does: each worker has one core, and the arrays of tests are small.
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
# A shell starts what runs in the background with SIGINT ignored, and the programs that the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# What Hypothesis tries where a test does not say how much. No example is too slow, since that depends on the machine.
hypothesis.settings.register_profile("suite", max_examples=examples(25, soak=1000), deadline=None)
hypothesis.settings.load_profile("suite")


def pytest_collection_finish() -> None:
    """Exclude modules and tests from garbage collection, since they exist until the end of the run. Collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture(scope="module", autouse=True)
def kept_out_of_collections():
    """Leave what a module of tests has left behind out of every later collection: caches grow large in a run of all tests."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def modes_of_torch_end_with_their_test():
    """Take away the modes of torch's functions in which a test has left PyTorch: of a capture that it has not closed, such as that
    of `tui_gru.debug`, which lasts as long as its module."""
    yield
    if (torch := sys.modules.get("torch")) is not None and hasattr(torch, "_C"):
        while torch._C._len_torch_function_stack():
            torch._C._pop_torch_function_stack()


@pytest.fixture(scope="session", autouse=True)
def frozen_objects_stay_frozen():
    """Have a player thaw nothing: in a run of all tests that is all that earlier tests have left, and takes seconds to collect."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "unfreeze", lambda: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def style_sheets_parsed_once():
    """Parse a style sheet once for each theme. Each app would parse the same ones, which takes a fifth of its start."""
    parse, tokenize = stylesheet.parse, stylesheet.tokenize_values
    rules = {}

    @functools.cache
    def tokens_of(variables):
        return tokenize(dict(variables))

    def parse_once(scope, css, read_from, *, variable_tokens, **options):
        key = (scope, css, read_from, id(variable_tokens), *options.values())  # `tokens_of` keeps the tokens, and so their id
        if key not in rules:
            rules[key] = list(parse(scope, css, read_from, variable_tokens=variable_tokens, **options))
        return rules[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stylesheet, "tokenize_values", lambda variables: tokens_of(tuple(variables.items())))
        patch.setattr(stylesheet, "parse", parse_once)
        yield


@pytest.fixture(scope="session")
def state_folders(tmp_path_factory):
    """Return a function that creates a new empty folder per call. `mktemp` would list all existing folders each time."""
    base, numbers = tmp_path_factory.mktemp("states"), itertools.count()

    def new():
        folder = base / str(next(numbers))
        folder.mkdir()
        return folder

    return new


@pytest.fixture(autouse=True)
def own_state_folder(state_folders, monkeypatch, request):
    """Sessions of the tests, and of the programs that they start, are no business of the person who runs them.

    The screen says an error that nothing expects, writes a report, and goes on: a test in which that happens fails, unless it
    asks for `expected_reports`.
    """
    folder = state_folders()
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    yield folder
    if "expected_reports" not in request.fixturenames:
        assert [path.read_text() for path in folder.glob("tui-gru/reports/*")] == []


@pytest.fixture
def expected_reports(own_state_folder):
    """Expect the error reports of a test; the returned function gives their texts."""
    return lambda: [path.read_text() for path in sorted(own_state_folder.glob("tui-gru/reports/*"))]
