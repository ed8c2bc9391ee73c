"""Answers as data frames and CSV, and the trace of a session as arrays."""

from __future__ import annotations

import csv
import io
import json
import sys

import numpy as np
import pandas as pd
import pytest

from tui_gru import Session, TuiGruError
from tui_gru.analysis import tables
from tui_gru.cli.commands import main
from tui_gru.session.session import OF_SCREENS
from tui_gru.storage.trace import Trace


@pytest.fixture(scope="module")
def trained() -> Session:
    session = Session()
    session.learning = True
    session.step("epoch", 4)
    return session


def test_a_history_has_a_row_a_batch(trained):
    frame = trained.to_frame("history", points=12)
    batches, values = trained.history("loss", points=12)
    assert list(frame.columns) == ["epoch", "batch", "loss"]
    np.testing.assert_array_equal(frame["loss"], values)
    np.testing.assert_array_equal((frame["epoch"] - 1) * 3 + frame["batch"] - 1, batches)
    assert list(trained.to_frame("history", "norm(dUh)", points=2)) == ["epoch", "batch", "norm(dUh)"]


def test_a_story_has_a_row_a_moment(trained):
    frame, story = trained.to_frame("story"), trained.story()
    assert len(frame) == len(story.moments)
    np.testing.assert_array_equal(frame["grad_norm"], story.columns["grad_norm"][story.batches])
    assert frame["held_out"].isna().all()  # there is no such text
    assert {"norm(Uh)", "norm(dh) t 1", "reach 0"} <= set(frame)


def test_losses_units_and_findings_count_from_1(trained):
    losses = trained.to_frame("losses")
    assert set(losses["row"]) == {1, 2}
    np.testing.assert_array_equal(losses["loss"], trained.losses().values)
    assert list(trained.to_frame("units", "z", row=0)) == ["character", "z[unit 1]", "z[unit 2]"]
    np.testing.assert_array_equal(trained.to_frame("units")["h[unit 2]"], trained.units().values[:, 1])
    findings = trained.to_frame("findings")
    assert findings["title"].tolist() == [finding.title for finding in trained.findings()]
    assert findings["first_seen"][0] == "epoch 1, batch 1"


def test_what_is_no_table_is_refused(trained):
    with pytest.raises(TuiGruError, match="there is no table 'histroy'; did you mean history"):
        trained.to_frame("histroy")
    with pytest.raises(TuiGruError, match="what must be a"):
        trained.to_frame(3)


def test_without_pandas_it_says_what_to_install(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(TuiGruError, match="a data frame needs pandas, which is not installed: pip install pandas"):
        trained.to_frame("history")


@pytest.mark.parametrize("panel", ["story", "units", "losses", "findings"])
def test_a_panel_is_exported_as_csv(panel, trained, tmp_path, capsys):
    path = tmp_path / f"{panel}.csv"
    assert main(["run", "-x", f"l; 4e; {panel}; export {path}"]) == 0
    capsys.readouterr()
    options = {"text": trained.config.text} if panel == "losses" else {}  # the panel shows the whole text
    exported, frame = pd.read_csv(path), trained.to_frame(panel, **options)
    assert list(exported) == list(frame)
    assert len(exported) == len(frame)
    for name in frame.select_dtypes("float"):
        column = frame[name].to_numpy(getattr(frame[name].dtype, "numpy_dtype", frame[name].dtype), na_value=np.nan)
        np.testing.assert_array_equal(exported[name].to_numpy(column.dtype), column)


def test_other_panels_have_no_numbers_for_csv(capsys, tmp_path):
    assert main(["run", "-x", f"s; branches; export {tmp_path / 'x.csv'}"]) == 2
    assert "open one of them first" in capsys.readouterr().err


def test_csv_reads_back_as_the_same_numbers():
    text = tables.csv_text({"a": np.array([0.1, np.nan, 1e-300]), "b": ["x,y", None, 'q"'], "c": [1, 2, 3]})
    head, *rows = csv.reader(io.StringIO(text))
    assert (head, rows) == (["a", "b", "c"], [["0.1", "x,y", "1"], ["nan", "", "2"], ["1e-300", 'q"', "3"]])


def test_a_trace_of_a_session_is_that_of_the_command(trained):
    arrays = trained.trace()
    fresh = Trace.of_new_run(trained.config, epochs=4).arrays()
    for name in set(fresh) - {"run"}:
        np.testing.assert_array_equal(arrays[name], fresh[name], err_msg=name)
    assert json.loads(str(arrays["run"])) == {"first_batch": 0, "batches": 12, "learn": True}
    assert trained.trace(first=10)["timesteps/z"].shape == (2, 3, 2, 2)
    with pytest.raises(TuiGruError, match="first must be from 0 to 11"):
        trained.trace(first=12)


def test_a_trace_without_learning_has_no_gradients():
    session = Session()
    with pytest.raises(TuiGruError, match="no batch is finished yet"):
        session.trace()
    session.step("batch")
    session.step("timestep")
    session.learning = True
    session.step("batch")
    arrays = session.trace()
    assert not any(name.startswith(("gradients", "timesteps/dh")) for name in arrays)
    assert "gradients/Wz" in session.trace(first=1)


def test_completion_shows_what_a_user_wants(trained):
    offered = {name for name in dir(trained) if not name.startswith("_")}
    assert {"step", "seek", "value", "findings", "to_frame", "trace", "player"} <= offered
    assert not offered & OF_SCREENS
    assert all(hasattr(trained, name) for name in OF_SCREENS)


def test_numbers_that_are_missing_have_a_type_of_their_own_and_other_columns_are_left():
    nan = float("nan")
    columns = tables.of_pandas({"a": [0.5, None, nan], "b": ["x", None, 0.5], "c": [0.5, 1.5, nan], "d": [None] * 3})
    frame = pd.DataFrame(columns)
    assert frame["a"].isna().tolist() == [False, True, False]
    assert np.isnan(frame["a"][2])
    assert (columns["b"], columns["c"][:2]) == (["x", None, 0.5], [0.5, 1.5])
    assert (columns["d"], frame["d"].tolist()) == ([None] * 3, [None] * 3)
