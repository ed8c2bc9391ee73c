"""Imported runs in session files: saved, reopened, recorded, and refused after tampering."""

import numpy as np
import pytest
import torch
from torch import nn

import tui_gru
from tests.session.acting import altered
from tests.session.test_imported_derivations import of_a_file, of_a_module, of_a_recording, of_another_convention, of_tokens
from tui_gru import Session, TuiGruError
from tui_gru.storage import store as library
from tui_gru.storage.file import SessionFileError
from tui_gru.storage.store import session_path

MAKERS = [of_a_file, of_another_convention, of_tokens, of_a_module, of_a_recording]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "own.tui-gru"


def assert_same(one, other):
    """Check everything that can be read at every position."""
    assert one.program_text() == other.program_text()
    here = one.position
    for tick in (*range(0, one.end.tick + 1, 7), one.end.tick):
        one.seek(tick)
        other.seek(tick)
        for name in one.program.readable:
            ours, theirs = one.value(name), other.value(name)
            assert (ours is None) == (theirs is None), name
            assert ours is None or np.array_equal(np.asarray(ours), np.asarray(theirs), equal_nan=True), name
    one.seek(here)
    other.seek(here)


@pytest.mark.parametrize("make", MAKERS)
def test_it_is_opened_where_it_was_left(tmp_path, path, make):
    session = make(tmp_path)
    session.seek(session.program.ticks // 3)
    weight = session.parameter_names[0]
    session.edit(weight, (0, 0), 0.5)
    session.step("timestep", 2)
    session.mark("a")
    session.save(path)
    again = Session.open(path)
    assert (again.position, again.branches, again.branch) == (session.position, session.branches, session.branch)
    assert again.parameter(weight)[0, 0] == 0.5
    assert (again.remarks, again.learning) == (session.remarks, session.learning)
    assert_same(session, again)
    again.undo()
    session.undo()
    assert_same(session, again)
    with pytest.raises(TuiGruError):
        again.sgd()
    if session.expected is not None:
        assert again.expected.sentence == session.expected.sentence
    for name in session.parameter_names:
        ours, theirs = session.recorded_gradient(name), again.recorded_gradient(name)
        assert (ours is None) == (theirs is None)
        assert ours is None or np.array_equal(ours, theirs)


def test_it_is_recorded_as_it_goes_on(tmp_path, path):
    session = of_a_file(tmp_path)
    session.record_to(path)
    session.step("timestep", 3)
    session.close()
    assert Session.open(path).position == session.position


def test_numbers_that_are_not_finite_are_saved(tmp_path, path):
    weights = nn.GRU(3, 4).state_dict()
    weights["weight_hh_l0"][4, 0] = torch.nan
    torch.save(weights, tmp_path / "m.pt")
    session = tui_gru.load(tmp_path / "m.pt")
    session.seek(session.end)
    session.save(path)
    assert_same(session, Session.open(path))


@pytest.mark.parametrize(("make", "place"), [(of_a_file, "m.pt, t 3"), (of_a_recording, "step 0, t 3")])
def test_a_list_of_sessions_says_where_it_was_left(tmp_path, path, make, place):
    session = make(tmp_path)
    session.seek("e1 b1 t3")
    session.save(session_path("own"))
    (listed,) = library.all_sessions()
    assert listed.place.endswith(place)


TAMPERED = {
    "no sizes": lambda given: {**given, "sizes": {}},
    "a huge size": lambda given: {**given, "sizes": {**given["sizes"], "H": 2**40}},
    "another size": lambda given: {**given, "sizes": {**given["sizes"], "T": 3}},
    "no structure": lambda given: {**given, "structure": {}},
    "a loss": lambda given: {**given, "structure": {**given["structure"], "loss": "cross-entropy"}},
    "more layers": lambda given: {**given, "structure": {**given["structure"], "layers": 3}},
    "a damaged cell": lambda given: {**given, "structure": {**given["structure"], "cell_text": "h = ("}},
    "gradients": lambda given: {**given, "learns": True},
    "another type": lambda given: {**given, "dtype": "float16"},
    "texts that are none": lambda given: {**given, "title": 3, "tolerance": "a"},
    "nothing": lambda given: {},
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_does_not_fit_is_refused(tmp_path, path, what):
    of_a_file(tmp_path).save(path)
    altered(path, "run", lambda run: {**run, "given": TAMPERED[what](run["given"])})
    with pytest.raises(SessionFileError) as caught:
        Session.open(path)
    assert "\n" not in str(caught.value)


MISPLACED = {
    "no folder": lambda identity: {**identity, "folder": 3},
    "a folder that cannot be": lambda identity: {**identity, "folder": "\0"},
    "no module of it": lambda identity: {**identity, "name": "other"},
    "no steps": lambda identity: {**identity, "steps": []},
    "steps that are none": lambda identity: {**identity, "steps": [[0, 0]]},
    "the same step twice": lambda identity: {**identity, "steps": identity["steps"][:1] * 3},
    "fewer steps": lambda identity: {**identity, "steps": identity["steps"][:1]},
    "nothing": lambda identity: {},
}


@pytest.mark.parametrize("what", MISPLACED)
def test_a_recording_that_does_not_fit_is_refused(tmp_path, path, what):
    session = of_a_recording(tmp_path)
    session.seek(session.end)
    session.save(path)
    altered(path, "run", lambda run: {**run, "recording": MISPLACED[what](run["recording"])})
    with pytest.raises(SessionFileError) as caught:
        Session.open(path)
    assert "\n" not in str(caught.value)
