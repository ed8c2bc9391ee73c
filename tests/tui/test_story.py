"""The story of the run on screen: its charts, its cursor, expressions, and what is exported."""

from __future__ import annotations

import csv
import json
import math
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tui_gru
from tests.session.test_imported_derivations import of_a_recording
from tests.tui.pressing import press
from tests.tui.test_analysing import LARGE, TEXT, opened, started
from tui_gru import Session
from tui_gru.analysis.tables import csv_text
from tui_gru.analysis.trials import Cure, RateTrial, command_line
from tui_gru.cli.commands import main
from tui_gru.engine.config import Config
from tui_gru.engine.numbers import plain, significant
from tui_gru.tui.app import make_app
from tui_gru.tui.headless import headless, until_checked, until_idle
from tui_gru.tui.panels.story import BatchScale, RatesPanel, StoryPanel, grouped
from tui_gru.tui.panels.time import TimeLine, timeline_marks
from tui_gru.tui.plots import Dots, TimeScale, divisions
from tui_gru.tui.session_screen import BottomLine
from tui_gru.tui.theme import ASCII, BLACKBOARD, UNICODE, palette_for

SHOWN = "H left left"


def panel_of(app: Any) -> StoryPanel:
    panel = app.screen.overlay
    assert isinstance(panel, StoryPanel)
    return panel


async def test_the_story_of_a_run_is_told_up_to_the_newest_moment() -> None:
    async with started(LARGE, ":go e1 b3", "H", epochs=2) as (app, pilot):
        panel, session = panel_of(app), app.screen.session
        assert panel.story is not None
        assert panel.story.count == session.newest.number + 1
        assert len(panel.story.moments) == panel.story.planned
        text = panel.plain_text()
        for words in (
            "loss",
            "unigram",
            "‖∇‖",
            "max |W|",
            "z below 0.1",
            "‖Uz‖",
            "‖ΔW‖/‖W‖",
            "gradient reaches",
            "‖dh‖",
        ):
            assert words in text
        assert panel.moment is not None
        assert panel.moment.sample in text.replace("⏎", "\n").replace("␣", " ")
        assert f"{panel.story.columns['loss'][panel.moment.batch]:.4f}" in text
        await press(pilot, "H")
        assert app.screen.overlay is None


async def test_the_cursor_goes_from_moment_to_moment_and_enter_goes_there() -> None:
    async with started(LARGE, "H home", epochs=2) as (app, pilot):
        panel, session = panel_of(app), app.screen.session
        assert panel.story is not None
        assert panel.at_batch == 0
        await press(pilot, "right right")
        batch = panel.at_batch
        assert batch == panel.story.moments[2].batch
        await press(pilot, "enter")
        assert session.position.tick == session.state.timeline.end_of(batch)
        assert app.screen.overlay is panel
        assert f"e1 b{batch + 1} ·" in panel.heading
        await press(pilot, "end left right right")
        assert panel.at_batch == panel.story.moments[-1].batch


async def test_a_click_moves_the_cursor_to_the_nearest_moment() -> None:
    async with started(LARGE, "H ,", epochs=2) as (app, pilot):
        panel = panel_of(app)
        await pilot.click(StoryPanel, offset=(100, 6))
        await pilot.pause()
        assert panel.story is not None
        column = 100 - 2 - panel.margin
        nearest = min(
            panel.story.batches.tolist(),
            key=lambda batch: abs(panel.scale.at(np.array([batch]))[0] - column / (panel.scale.width - 1)),
        )
        assert panel.at_batch == nearest


async def test_letters_of_findings_and_marks_stand_where_they_are_first_seen() -> None:
    async with started({}, "l 20e", ":mark k what to see", "100e", ":sample Ma 5 tutorial", "H") as (app, pilot):
        panel = panel_of(app)
        findings = app.screen.session.found
        assert findings
        rows = {
            row.split()[0]: row
            for row in panel.plain_text().splitlines()
            if row.split() and row.split()[0] in ("findings", "marks")
        }
        assert "A" in rows["findings"]
        assert "k" in rows["marks"][panel.margin :]
        seen = [each.first_seen.number for each in findings if each.first_seen is not None]
        assert set(seen) <= {*panel.story.batches.tolist()} if panel.story is not None else False
        await press(pilot, "end [")
        assert panel.at_batch == max(batch for batch in seen if batch < panel.story.count - 1)
        assert "first seen here" in panel.plain_text()


async def test_an_expression_becomes_a_chart_until_it_is_plotted_again() -> None:
    async with started(LARGE, ":plot norm(Uz)", epochs=2) as (app, pilot):
        panel, session = panel_of(app), app.screen.session
        (plotted,) = panel.plotted
        assert plotted.batches.tolist() == panel.story.batches.tolist() if panel.story is not None else False
        assert plotted.values.tolist() == session.history("norm(Uz)", at=plotted.batches.tolist())[1].tolist()
        assert "norm(Uz)" in panel.plain_text()
        await press(pilot, "escape H")
        assert [each.expression for each in panel_of(app).plotted] == ["norm(Uz)"]
        await press(pilot, ":plot norm(Uz)")
        assert panel_of(app).plotted == ()
        for wrong, words in (("norm(", "never closed"), ("h", "numbers"), ("nonsense", "nonsense")):
            await press(pilot, f":plot {wrong}")
            assert words in app.screen.query_one(BottomLine).message
            assert session.kept("plotted") == []


async def test_the_numbers_of_the_story_are_exported(tmp_path: Path) -> None:
    path = tmp_path / "story.csv"
    async with started(LARGE, f":export {path}", epochs=2) as (app, pilot):
        assert "open one of them first" in app.screen.query_one(BottomLine).message
        await press(pilot, ":plot norm(Uz)", f":export {path}", f":export {tmp_path / 'story.svg'}")
        story = panel_of(app).story
        assert story is not None
        with path.open(encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        found = [dict(zip(head, row, strict=True)) for row in rows]
        assert len(found) == len(story.moments)
        for row, moment in zip(found, story.moments, strict=True):
            each = app.screen.session.program.num_batches
            assert (int(row["epoch"]), int(row["batch"])) == (moment.batch // each + 1, moment.batch % each + 1)
            assert float(row["loss"]) == story.columns["loss"][moment.batch]
            assert float(row["norm(Uz)"]) == pytest.approx(moment.norms["Uz"], rel=1e-6)
            assert float(row["z below 0.1"]) == moment.shares[0]
            assert float(row["norm(dh) t 1"]) == moment.deltas[0]
            assert row["held_out"] == ""
        assert "reaches" in (tmp_path / "story.svg").read_text("utf-8")


async def test_a_run_without_a_batch_says_so() -> None:
    async with started({}, "H") as (app, _):
        assert "no batch has been finished yet" in panel_of(app).plain_text()


async def test_a_model_without_a_text_has_a_story(tmp_path: Path) -> None:
    async with started({**LARGE, "cell": "lstm", "layers": 2}, "s n l 2n H") as (app, pilot):
        assert "internal error" not in panel_of(app).plain_text()
        await press(pilot, "home , right")
        assert "internal error" not in panel_of(app).plain_text()


@pytest.mark.parametrize("logarithmic", [True, False])
def test_each_batch_is_drawn_in_its_column(logarithmic: bool) -> None:
    scale = BatchScale(1000, 80, logarithmic)
    edges = scale.edges(80)
    for batch in (0, 1, 5, 99, 998, 999):
        column = scale.column(batch)
        assert edges[column] <= batch + 1e-9
        assert batch - 1e-9 <= edges[column + 1]
    assert (scale.column(0), scale.column(999)) == (0, 79)
    assert scale.nearest(np.array([0, 999])).tolist() == [0] * 40 + [1] * 40
    between = scale.between(np.array([0, 999]), np.array([1.0, 3.0]), 80)
    assert (between[0], between[-1]) == (1.0, 3.0)
    assert BatchScale(1, 10, logarithmic).column(0) == 0


@pytest.mark.parametrize("logarithmic", [True, False])
def test_a_column_without_a_moment_is_blank(logarithmic: bool) -> None:
    batches = np.array([0, 1, 2, 700, 999])
    scale = BatchScale(1000, 80, logarithmic)
    shown = scale.shown(batches)
    for column, index in enumerate(shown.tolist()):
        inside = [batch for batch in range(1000) if scale.column(batch) == column]
        if inside:
            assert (index in [i for i, batch in enumerate(batches) if batch in inside]) is bool(set(inside) & set(batches.tolist()))
        elif index >= 0:  # between two neighbouring batches: the nearer one
            assert abs(scale.column(int(batches[index])) - column) <= min(
                abs(scale.column(batch) - column) for batch in range(5) if batch not in batches
            )
    joined = np.flatnonzero(scale.joins(batches, 160)) / 159
    assert joined.min() == 0
    assert joined[joined < 0.9].max() == pytest.approx(scale.at(np.array([2]))[0], abs=1 / 159)
    assert ((joined < 0.9) | (joined == 1)).all()


async def test_what_was_not_computed_between_moments_is_not_drawn() -> None:
    async with started(LARGE, "H ,", epochs=1) as (app, _):
        panel = panel_of(app)
        story = panel.story
        assert story is not None
        few = replace(story, moments=tuple(each for each in story.moments if each.batch in (0, story.count - 1)))
        panel.tell(few)
        row = next(row for row in panel.plain_text().splitlines() if "‖Wz‖" in row)
        cells = row[panel.margin : panel.margin + panel.scale.width]
        last = story.count - 1
        of_columns = np.rint(np.linspace(0, last, len(cells)))
        assert [cell != " " for cell in cells] == np.isin(of_columns, (0, last)).tolist()


async def test_a_recording_says_nothing_of_updates_and_of_weights_that_it_does_not_have(tmp_path: Path) -> None:
    app = make_app(of_a_recording(tmp_path))
    async with app.run_test(size=(160, 50)) as pilot:
        await press(pilot, "9n H")
        text = panel_of(app).plain_text()
        assert "nan" not in text
        assert "moves most" not in text
        assert "‖ΔW‖" not in text
        assert "max |W|" in text


async def test_the_axis_of_a_recording_counts_its_steps(tmp_path: Path) -> None:
    app = make_app(of_a_recording(tmp_path))
    async with app.run_test(size=(120, 40)) as pilot:
        await press(pilot, "H")
        panel = panel_of(app)
        assert "story of the run · step 0 · 3 steps" in panel.heading
        (axis,) = (line.split() for line in panel.plain_text().splitlines() if line.startswith("step "))
        assert [word for word in axis if word != "│"] == ["step", "0", "2", "step", "4"]
        assert [row[0] for row in csv.reader(csv_text(panel.columns() or {}).splitlines())] == ["recorded_step", "0", "2", "4"]
        session = app.screen.session
    scale = TimeScale(session.end.tick, 78)
    assert [label for _, label in divisions(scale, session.program) if label.startswith(("step", "b", "e"))] == [
        "step 0", "step 2", "step 4",
    ]  # fmt: skip


def test_timesteps_are_grouped() -> None:
    assert [list(group) for group in grouped(3, 3, log=False)] == [[0], [1], [2]]
    assert sum(map(len, grouped(16, 4, log=True))) == 16
    assert [len(group) for group in grouped(16, 4, log=True)] == sorted(len(group) for group in grouped(16, 4, log=True))


def test_picture(snap_compare: Any) -> None:
    assert snap_compare(opened(LARGE, 20), terminal_size=(160, 50), run_before=lambda pilot: press(pilot, SHOWN))


@pytest.mark.parametrize("size", [(120, 36), (80, 24), (121, 36)], ids=["normal", "narrow", "ascii"])
def test_texts(snap_text: Any, request: Any, size: tuple[int, int]) -> None:
    app = opened(LARGE, 20)
    if request.node.callspec.id == "ascii":
        app.glyphs = ASCII
    snap_text(app, terminal_size=size, run_before=lambda pilot: press(pilot, SHOWN))


# Cures and learning rates, tried on copies

TOO_LARGE = {**LARGE, "text": TEXT, "learning_rate": 3.0}


async def test_the_cures_of_a_finding_are_tried_and_listed_in_the_order_measured() -> None:
    async with started(TOO_LARGE, "100n ! t") as (app, pilot):
        session, panel = app.screen.session, app.screen.overlay
        finding = panel.findings[0]
        expected = session.try_cures(finding)
        assert expected
        rows = panel.plain_text().splitlines()
        listed = [next(i for i, row in enumerate(rows) if row.strip().startswith(trial.option)) for trial in expected]
        assert listed == sorted(listed)
        for at, trial in zip(listed, expected, strict=True):
            assert plain(trial.loss) in rows[at]
        own = next(row for row in rows if row.strip().startswith("as it is"))
        assert plain(expected[0].without) in own
        await press(pilot, "y")
        assert app.clipboard.endswith(expected[0].option)
        assert "--learning-rate 3" not in app.clipboard.removesuffix(expected[0].option)
        assert app.screen.session.position == app.screen.session.newest


async def test_the_best_cure_is_kept_as_a_branch_that_equals_a_run_with_it() -> None:
    async with started(TOO_LARGE, "100n ! t") as (app, pilot):
        session = app.screen.session
        best = session.try_cures(app.screen.overlay.findings[0])[0]
        option, value = best.option.split()
        assert option == "--learning-rate"
        was = np.asarray(app.screen.snapshot.losses)
        await press(pilot, "b")
        assert app.screen.overlay is None
        losses = np.asarray(app.screen.snapshot.losses)
        alone = tui_gru.Session(**{**TOO_LARGE, "learning_rate": float(value)})
        alone.learning = True
        alone.step("batch", len(was))
        assert len(was) == session.state.timeline.completed(session.position)
        assert losses.tolist() == np.asarray(alone.snapshot().losses).tolist()
        message = app.screen.query_one(BottomLine).message
        assert f"with {best.option} the last loss is {losses[-1]:.4f} instead of {was[-1]:.4f} · on branch" in message
        session.switch("main" if session.branch != "main" else next(name for name in session.branches if name != "main"))
        assert np.asarray(session.snapshot().losses).tolist() == was.tolist()


async def test_a_cure_that_no_branch_can_have_is_refused() -> None:
    async with started({"layout": "contiguous"}, ":sample Ma 5 tutorial", "! b") as (app, pilot):
        assert "no cure of this finding has been tried yet" in app.screen.query_one(BottomLine).message
        panel = app.screen.overlay
        panel.request("cure.keep", panel.findings[0], Cure("carry", "reset"))
        await pilot.pause()
        assert "--carry reset needs a new run" in app.screen.query_one(BottomLine).message
        assert app.screen.session.branches == ("main",)


async def test_changes_are_taken_back_on_a_branch_that_equals_a_run_without_them() -> None:
    small = {**LARGE, "text": TEXT}
    async with started(small, "60n", *(f":set Wy[unit {unit},{unit}] 60" for unit in (1, 2)), "10n ! t") as (app, pilot):
        session, panel = app.screen.session, app.screen.overlay
        first = panel.findings[0].cures[0]
        assert first.typed.startswith("take 2 changes back at epoch")
        from_there = (
            f"{100} batches from batch {60 % session.config.num_batches + 1} of epoch {60 // session.config.num_batches + 1} on"
        )
        assert f"tried on copies, {from_there}; the loss at the end" in panel.plain_text()
        await press(pilot, "y")
        assert "no command takes a change back" in app.screen.query_one(BottomLine).message
        await press(pilot, "b")
        assert app.screen.overlay is None
        assert session.branch != "main"
        alone = tui_gru.Session(**small)
        alone.learning = True
        alone.step("batch", 70)
        assert np.asarray(app.screen.snapshot.losses).tolist() == np.asarray(alone.snapshot().losses).tolist()


async def test_the_changed_line_of_a_cell_is_copied() -> None:
    cell = "reads x\nstate h : H\nparameters Wh Uh bh\nh = tanh(x Wh + 0.01 ⊙ (h_prev Uh) + bh)"
    async with started({**LARGE, "text": TEXT, "cell": "mine.cell", "cell_text": cell}, "60n ! t") as (app, pilot):
        assert app.screen.overlay.findings[0].cures[0].typed == "the line h with 1 in the place of 0.01"
        await press(pilot, "y")
        assert app.screen.query_one(BottomLine).message == "copied: h = tanh(x Wh + 1 ⊙ (h_prev Uh) + bh)"
        await press(pilot, "b")
        assert "needs a new run, which no branch can be; y copies the changed line" in app.screen.query_one(BottomLine).message
        assert app.screen.session.branches == ("main",)


async def test_another_sampler_is_tried_from_the_same_weights_with_the_same_random_numbers() -> None:
    async with started({"layout": "contiguous"}, "l 300e", ":sample Ma 20 0.8 tutorial", "l 9e !") as (app, pilot):
        session, panel = app.screen.session, app.screen.overlay
        finding = panel.findings[0]
        drawn = session.samples[-1]
        await press(pilot, "t")
        again = tui_gru.Session(text=session.config.text, layout="contiguous", hidden_size=2, batch_size=2, seq_length=3)
        again.learning = True
        again.step("epoch", 300)
        fed = again.sample("Ma", 20, temperature=0.8, seed=drawn.seed)
        assert again.sample("Ma", 20, sampler="tutorial", temperature=0.8, seed=drawn.seed) == drawn.text
        as_it_is, tried = session.tried_options(finding)
        assert (as_it_is.text, tried.text) == (drawn.text, fed)
        for each in (as_it_is, tried):
            losses = again.losses(text=each.text).values[1:]  # of what is predicted after Ma, a, …
            assert each.losses == pytest.approx(losses, abs=1e-5)
        assert tried.loss < as_it_is.loss
        text = panel.plain_text()
        assert text.index(fed) < text.index(drawn.text, text.index("--sampler fed-back"))
        assert "sampled with the same weights and random numbers; the loss of 20 characters when the model reads them" in text
        assert session.try_cures(finding)[0].option == "--sampler fed-back"
        await press(pilot, "y")
        assert app.screen.query_one(BottomLine).message == "copied: :sample Ma 20 0.8 fed-back"
        await press(pilot, "b")
        assert (session.samples[-1].sampler, session.samples[-1].tick) == ("fed-back", session.position.tick)


async def test_a_finding_without_an_option_says_so() -> None:
    async with started({"layout": "contiguous", "vocabulary": "Math!"}, "l 9n !") as (app, pilot):
        assert not app.screen.overlay.findings[0].cures
        await press(pilot, "t")
        assert "no option to try" in app.screen.query_one(BottomLine).message
        await press(pilot, "y")
        assert "no cure of this finding can be tried" in app.screen.query_one(BottomLine).message


async def test_the_cursor_goes_to_each_option_that_was_tried_with_its_curve_and_command() -> None:
    async with started(TOO_LARGE, "100n !") as (app, pilot):
        session, panel = app.screen.session, app.screen.overlay
        finding = panel.findings[0]
        places = sum(evidence.number is not None for evidence in finding.evidence)
        await press(pilot, " ".join(["down"] * (places + 1)), "enter")  # on the cure
        as_it_is, *tried = session.tried_options(finding)
        kept = sorted((each for each in tried if not each.refused), key=lambda each: each.loss)
        text = panel.plain_text()
        assert "as it is" in text
        for each in tried:
            assert f"not tried: {each.option}: {each.refused}" in text if each.refused else plain(each.loss) in text
        assert [each.option for each in tried if each.refused] == ["--clip 1"]
        for each in kept:
            await press(pilot, "down")
            assert f"loss  {each.option}  as it is" in panel.plain_text()
            await press(pilot, "y")
            assert app.clipboard.endswith(each.option)
        count = len(app.screen.snapshot.losses)
        assert list(as_it_is.losses[:count]) == np.asarray(app.screen.snapshot.losses).tolist()
        await press(pilot, "enter")
        assert session.branch == "main~1"
        assert np.asarray(session.snapshot().losses).tolist() == list(kept[-1].losses[:count])


async def test_what_has_gone_again_is_listed_and_stands_in_the_story() -> None:
    async with started({**TOO_LARGE, "learning_rate": 1.0}, "10n", ":set learning_rate 0.01", "99n 99n", "!") as (app, pilot):
        await until_checked(pilot)
        gone = app.screen.session.found.gone
        assert gone
        text = app.screen.overlay.plain_text()
        for each in gone:
            first, last = (f"e{at.epoch + 1} b{at.batch + 1}" for at in (each.first_seen, each.last_seen))
            row = next(row for row in text.splitlines() if each.title in row)
            assert row.endswith(f"seen {first} – {last}")
        assert text.index("gone again") < text.index(gone[0].title)
        await press(pilot, "H")
        rows = app.screen.overlay.plain_text().splitlines()
        at = next(i for i, row in enumerate(rows) if row.startswith("gone again"))
        assert all(
            each.title[:30] in rows[at + i] and "──" in rows[at + i] for i, each in enumerate(gone)
        )  # cut where it has no room


async def test_the_letters_of_findings_stand_on_the_time_line() -> None:
    async with started(TOO_LARGE, "100n !") as (app, _):
        findings = [mark for mark in timeline_marks(app.screen.snapshot) if mark.kind == "finding"]
        found = app.screen.session.found
        assert [mark.name for mark in findings] == [chr(ord("A") + i) for i in range(len(found))]
        assert [mark.tick for mark in findings] == [each.first_seen.tick for each in found]
        assert app.screen.overlay.plain_text().splitlines()[2].strip().lstrip("▸ ").startswith(f"A {found[0].title}"[:40])
        assert "A" in app.screen.query_one(TimeLine).plain_text()


async def test_learning_rates_are_tried_and_compared_with_that_of_the_run() -> None:
    async with started({**LARGE, "text": TEXT, "learning_rate": 1e-4}, "3n", ":rates") as (app, _):
        session, panel = app.screen.session, app.screen.overlay
        assert isinstance(panel, RatesPanel)
        assert panel.done
        assert panel.trials == session.rates()
        best = min(panel.trials, key=lambda trial: trial.loss)
        times = best.rate / 1e-4
        slower = float(f"{times:.2g}")
        assert panel.sentence == f"{significant(best.rate)} falls fastest; yours, 0.0001, is {slower:,.0f} times smaller"
        text = panel.plain_text()
        assert panel.sentence in text
        assert all(plain(trial.loss) in text for trial in panel.trials if np.isfinite(trial.loss))
        assert "●" in text
        assert session.position == session.newest


def test_what_is_said_of_a_rate() -> None:
    def sentence(own: float, *losses: tuple[float, float]) -> str:
        panel = RatesPanel(own)
        panel.trials, panel.done = tuple(RateTrial(*each) for each in losses), True
        return panel.sentence

    assert sentence(0.3, (0.01, 1.0), (0.3, 4.0)) == "0.01 falls fastest; yours, 0.3, is 30 times larger"
    assert sentence(4.2e18, (1.0, 1.0), (4.2e18, 4.0)) == "1 falls fastest; yours, 4.2e18, is 4.2e18 times larger"
    assert sentence(0.01, (0.01, 1.0), (0.3, 4.0)) == "yours, 0.01, is as good as any"
    assert sentence(0.3, (0.01, 1.0), (0.1, 1.0), (0.3, 4.0)) == "2 rates reach the same lowest loss; yours, 0.3, does not"
    assert sentence(0.0, (0.0, 2.0), (0.3, 1.0)) == "0.3 falls fastest; yours, 0, is 0, so nothing is learned"
    assert sentence(0.3, (0.3, math.inf)) == "with none of these rates the loss stays finite"


@pytest.mark.parametrize("options", [{}, {**LARGE, "layers": 2, "clip": 0.0}, {"text": TEXT[:70], "seq_length": 4, "cell": "lstm"}])
def test_a_command_line_starts_a_run_with_the_same_options(options: dict[str, Any], monkeypatch: Any, tmp_path: Path) -> None:
    config = Config.of(**options)
    words = shlex.split(command_line(config, "--learning-rate 0.5"))
    assert words[0] == "tui-gru"
    (tmp_path / "TEXT").write_text(str(config.text), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["trace", *words[1:], "--epochs", "1", "--no-learn", "-o", "run.json"]) == 0
    found = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["config"]
    for name, value in config.options.items():
        if name in found and name not in ("text", "vocabulary"):
            assert found[name] == (0.5 if name == "learning_rate" else value), name


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["braille", "one dot a cell"])
def test_a_mark_stands_in_the_row_of_the_curve(glyphs) -> None:
    palette = palette_for(BLACKBOARD, glyphs)
    for rows in (1, 4, 7, 10):
        for part in np.linspace(0, 1, 37).tolist():
            dots = Dots(palette, rows, 1)
            dots.draw_thin(np.full(dots.across, part), palette.plain)
            drawn = [y for y, row in enumerate(dots.rows()) if not row.free(0, 1)]
            assert drawn == [dots.row_of(part)]


async def test_a_loss_that_is_not_finite_is_marked_and_one_that_is_not_known_is_blank(tmp_path) -> None:
    head, model = torch.nn.Linear(4, 2), torch.nn.GRU(3, 4)
    optimizer = torch.optim.SGD([*model.parameters(), *head.parameters()], 0.1)
    with tui_gru.record(tmp_path / "run.gru", model, optimizer, every=1) as recorder:
        for loss in (1.0, float("nan"), None, 1.0):
            optimizer.zero_grad()
            head(model(torch.randn(5, 2, 3))[0]).mean().backward()
            optimizer.step()
            recorder.step(loss)
    async with headless(make_app(Session.open(tmp_path / "run.gru")), (120, 36)) as pilot:
        await press(pilot, "e H")
        await until_idle(pilot)
        panel = panel_of(pilot.app)
        chart = panel.plain_text().partition("‖∇‖")[0]
        assert chart.count("✗") == 1
        place = next(line.index("✗") for line in chart.splitlines() if "✗" in line) - panel.margin
        assert place == pytest.approx(panel.scale.column(1), abs=1)
