"""Reports: one self-contained file in each format, with the numbers of the session."""

from __future__ import annotations

import itertools
import json
import platform
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import datetime, timedelta
from html import escape
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tui_gru
from tests import chromium
from tests.capture.runs import trained
from tests.cli.test_mistakes import assert_one_line
from tui_gru import Session
from tui_gru.analysis.influence import ContextMemory
from tui_gru.analysis.report import (
    COMPARISON_WRITERS,
    WIDTH,
    WRITERS,
    Figure,
    FigureLine,
    RunComparison,
    as_markdown,
    as_svg,
    batch_ticks,
    figure_svg,
    report_html,
    svg_bars,
    value_ticks,
)
from tui_gru.analysis.trials import command_line
from tui_gru.cli.commands import main
from tui_gru.engine.numbers import rounded
from tui_gru.imported.recordings import open_recording

SVG = "{http://www.w3.org/2000/svg}"
TEXT = 'He said "no <b>tags</b> & `ticks` | bars". ' * 12


@pytest.fixture(scope="module")
def session():
    session = Session(text=TEXT, hidden_size=6, batch_size=4, seq_length=8, cell="lstm")
    session.learning = True
    session.step("epoch", 5)
    return session


@pytest.fixture(scope="module")
def tutorial():
    session = Session()
    session.learning = True
    session.step("epoch", 900)
    session.sample("Ma", 10, sampler="tutorial", temperature=0)
    return session


def test_it_says_what_the_session_says(session):
    report = session.report("a run")
    losses = np.asarray(session.snapshot().losses)
    assert [loss for _, loss in report.curve] == losses.tolist()
    assert report.findings == session.findings() == ()
    activity = session.units(without=True)
    notes = activity.goes_with()
    chosen = [note.unit for note in report.units]
    assert sorted(chosen) == list(range(6))
    assert (report.values == activity.values[: len(report.text), chosen].T).all()
    for note in report.units:
        found = notes[note.unit]
        assert (note.goes_with, note.r, note.before) == (found.what, found.r, found.before)
        assert note.added == activity.without[note.unit] - activity.loss
    gains = [notes[unit].gained for unit in chosen]
    assert gains == pytest.approx(sorted(gains, reverse=True), abs=0.01)
    first, last = report.samples[0][1], report.samples[-1][1]
    assert last == session.sample(TEXT[:2], 60, temperature=0)
    session.seek(0)
    assert first == session.sample(TEXT[:2], 60, temperature=0)
    assert session.report().curve == ()
    session.seek("e5 b10")


def test_marks_are_chapters_in_the_order_of_time():
    session = Session()
    session.step("batch")
    session.mark("b", "The loss of a guess.\nIt is near log 4.")
    session.seek(2)
    session.mark("a", "r <decides> what is read.")
    session.seek(0)
    session.mark("c")
    report = session.report()
    assert report.chapters == (
        ("c: before the first line", ()),
        ("a: epoch 1, batch 1, t 1, forward, after r = σ(x Wr + hₜ₋₁ Ur + br)", ("r <decides> what is read.",)),
        ("b: epoch 1, batch 1, t 3, loss, after loss = mean ③ over the timesteps", ("The loss of a guess.", "It is near log 4.")),
    )
    page, text, picture = (WRITERS[suffix](report) for suffix in (".html", ".md", ".svg"))
    assert "<p>r &lt;decides&gt; what is read.</p>" in page
    assert "## Marks\n\n### c: before the first line\n\n### a: " in text
    assert "The loss of a guess.\n\nIt is near log 4.\n" in text
    assert "It is near log 4." in picture
    assert "Marks" not in WRITERS[".html"](Session().report())


def test_a_long_curve_begins_with_the_first_loss_and_goes_on_with_means(tutorial):
    curve = tutorial.report().curve
    losses = np.asarray(tutorial.snapshot().losses)
    assert len(curve) == 300
    assert curve[0] == (1, losses[0])
    for (before, _), (batch, loss) in pairwise(curve):
        assert loss == pytest.approx(losses[before:batch].mean())
    assert curve[-1][0] == 2700


def test_it_says_how_the_run_came_about_and_how_far_back_it_remembers(session):
    session.seek(session.newest.tick)
    report, story = session.report(held_out=TEXT[5:60]), session.story(held_out=TEXT[5:60])
    batches = [moment.batch + 1 for moment in story.moments]
    figures = {figure.name: figure for figure in report.figures}
    assert list(figures) == ["held-out", "gradient", "gates", "weights", "steps", "reach"]
    norms = np.asarray(session.story().columns["grad_norm"])
    assert [value for _, value in figures["gradient"].lines[0].points] == pytest.approx(norms)
    assert figures["gradient"].levels == (("clip limit", 1.0),)
    for figure in figures.values():
        if figure.name != "gradient":
            assert all([batch for batch, _ in line.points] == batches for line in figure.lines)
    last = story.moments[-1]
    moving = [i for i in range(len(last.shares)) if any(moment.shares[i] for moment in story.moments)]
    assert [line.points[-1][1] for line in figures["gates"].lines] == [last.shares[i] for i in moving]
    assert figures["gates"].title.endswith(f"; {len(last.shares) - len(moving)} others are always 0")
    assert [line.points[-1][1] for line in figures["weights"].lines] == list(last.norms.values())
    assert figures["steps"].lines[0].points[-1][1] == last.step
    assert figures["held-out"].lines[0].points[-1][1] == last.held_out
    assert report.loss.lines[1] == figures["held-out"].lines[0]
    away = [back for back, size in enumerate(last.reach) if size >= last.reach.max() / 10]
    assert figures["reach"].lines[0].points[-1][1] == max(away)
    assert report.memory.losses.tolist() == session.memory().losses.tolist()


def test_its_facts(session):
    facts = dict(session.report().facts)
    y_hat = session.units("y_hat").values
    right = [session.config.vocabulary[best] == char for best, char in zip(y_hat.argmax(axis=1), TEXT[1:], strict=False)]
    assert facts["accuracy"].startswith(f"{100 * np.mean(right):.1f} % of the next characters")
    assert facts["versions"] == f"tui-gru {tui_gru.__version__}, Python {platform.python_version()}, NumPy {np.__version__}"
    assert abs(datetime.fromisoformat(facts["written"]) - datetime.now().astimezone()) < timedelta(minutes=3)
    assert facts["command"] == command_line(session.config)
    assert dict(session.report().options)["seed"] == str(session.config.seed)


def test_the_names_of_many_curves_stand_apart_from_each_other_within_the_picture_and_above_its_axis():
    names = [f"a gate with a long name, above 0.{i}" for i in range(12)]
    lines = tuple(FigureLine(name, ((1, 0.0), (100, float(i == 11)))) for i, name in enumerate(names))
    texts, _ = places(figure_svg(Figure("gates", "shares", lines)))
    found = [(x, y, words) for words, (x, y) in texts.items() if words.startswith("a gate")]
    axis = next(y for words, (_, y) in texts.items() if words == "batches") - 16
    assert len(found) == 12
    heights = sorted(y for _, y, _ in found)
    assert all(b - a >= 12 for a, b in pairwise(heights))
    assert 0 < heights[0] < heights[-1] <= axis + 4
    assert all(x + 7.2 * len(words) <= WIDTH for x, _, words in found)


def test_the_curves_of_two_runs_in_blocks_have_one_scale(session):
    mine = session.report("one", whole=False)
    other = replace(mine, title="two", curve=tuple((at, loss / 2) for at, loss in mine.curve))
    text = COMPARISON_WRITERS[".md"](RunComparison(mine, other))
    one, two = (next(line.strip() for line in text.splitlines() if f"  {name}: batches 1 to " in line) for name in ("one", "two"))
    high, low = max(loss for _, loss in mine.curve), min(loss / 2 for _, loss in mine.curve)
    assert f"▁ {rounded(low)} … █ {rounded(high)}" in text
    level = "▁▂▃▄▅▆▇█".index
    for line, report in ((one, mine), (two, other)):
        drawn = line.split("  ")[0]
        assert level(drawn[0]) == min(int((report.curve[0][1] - low) / (high - low) * 8), 7)


def places(svg):
    """The texts of a chart with where they stand, and the points of its lines."""
    root = ET.fromstring(svg)
    texts = {element.text: (float(element.get("x")), float(element.get("y"))) for element in root.iter(f"{SVG}text")}
    lines = [
        [tuple(map(float, point.split(","))) for point in element.get("points").split()]
        for element in root.iter(f"{SVG}polyline")
        if element.get("stroke-width") == "1.5"
    ]
    return texts, lines


@pytest.mark.parametrize("logarithmic", [True, False])
def test_a_chart_has_its_points_where_the_ticks_say(logarithmic):
    values = [1.0, 2.0, 5.0, 10.0]
    points = tuple(zip((1, 100, 200, 300), values, strict=True))
    figure = Figure("loss", "loss", (FigureLine("a", points),), (("level", 5.0),), logarithmic, epoch=100)
    texts, (line,) = places(figure_svg(figure))
    for (batch, value), (x, y) in zip(points, line, strict=True):
        assert texts[f"{batch}"][0] == pytest.approx(x, abs=0.1)
        if (label := rounded(value)) in texts and texts[label][0] < 90:
            assert texts[label][1] == pytest.approx(y + 4, abs=0.1)
    assert texts["e2"][0] == pytest.approx(line[1][0] + (line[1][0] - line[0][0]) / 99, abs=0.1)
    assert texts["level 5"][1] == pytest.approx(line[2][1] + 4, abs=0.1)
    assert texts["a 10"][1] == pytest.approx(line[3][1] + 4, abs=0.1)


@given(st.floats(1e-6, 1e6), st.floats(1.0001, 1e6), st.booleans())
def test_ticks_are_round_few_and_inside(low, times, logarithmic):
    high = low * times
    found = value_ticks(low, high, logarithmic=logarithmic)
    assert found == sorted(set(found))
    assert 1 <= len(found) <= 8
    assert all(low * 0.999999 <= value <= high * 1.000001 for value in found)


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_ticks_of_batches_are_whole_numbers_and_begin_with_the_first(first, more):
    found = batch_ticks(first, first + more)
    assert found[0] == first
    assert found == sorted(set(found))
    assert all(isinstance(tick, int) and first <= tick <= first + more for tick in found)
    assert len(found) <= 8


@pytest.mark.parametrize("write", WRITERS.values())
def test_the_tutorials_story_is_told_by_its_findings(tutorial, write):
    written = write(tutorial.report("Math"))
    findings = "the sampler does not feed back its characters", "rows do not continue"
    for words in (*findings, "Matttttttttt", "MathMathMath", "fed-back"):
        assert words in written


@pytest.mark.parametrize(
    ("cure", "written"),
    [
        ("--layout contiguous, or --carry reset", "`--layout contiguous`, or `--carry reset`"),
        (
            "a smaller --learning-rate, or a clipped gradient (--clip 1)",
            "a smaller `--learning-rate`, or a clipped gradient (`--clip 1`)",
        ),
        ("--learning-rate 1e-05 or less", "`--learning-rate 1e-05` or less"),
        ("--order with the order of the other program", "`--order` with the order of the other program"),
        (":sample 'M a' 10 0 fed-back", "`:sample 'M a' 10 0 fed-back`"),
        ("remove the sum over the rows from the cell", "remove the sum over the rows from the cell"),
    ],
)
def test_only_what_can_be_typed_of_a_cure_is_code(tutorial, cure, written):
    report = tutorial.report()
    report = replace(report, findings=(replace(report.findings[0], cure=cure, is_tried=True),))
    assert f"- cure: {written}\n" in as_markdown(report)
    code = re.sub("`(.+?)`", r"<code>\1</code>", written).replace("'", "&#x27;")
    assert f"<p>Cure: {code}</p>" in report_html(report)


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags, self.words = [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data


def test_settings_that_were_changed_stand_in_the_configuration():
    session = tui_gru.Session(optimizer="adam", clip=1.0)
    session.learning = True
    session.step("epoch", 2)
    for name, value in (("limit", 0.25), ("lr", 0.1)):
        session.step("timestep")
        session.edit(name, value)
    session.step("epoch")
    options = dict(session.report("run").options)
    assert options["limit changed"] == "to 0.25 at epoch 3, batch 1"
    assert options["learning_rate changed"] == "to 0.1 at epoch 3, batch 1"
    assert "beta1 changed" not in options
    session.seek("e2 b1 t1")
    assert not [name for name, _ in session.report("run").options if name.endswith("changed")]


def test_a_page_needs_no_script_and_no_other_file(session):
    page = Page()
    page.feed(report_html(session.report("<script>alert(1)</script>")))
    assert "script" not in {tag for tag, _ in page.tags}
    assert not {"src", "href", "onload"} & {name for _, attributes in page.tags for name in attributes}
    assert "<script>alert(1)</script>" in page.words
    assert not re.search(r"url\(|@import", report_html(session.report()))


def test_the_equations_are_set_as_mathematics_beside_their_text(session, tutorial):
    for each in (session, tutorial):
        report, written = each.report(), report_html(each.report())
        lines = [line for _, lines in report.equations for line in lines]
        assert [phase for phase, _ in report.equations] == ["forward", "loss", "backward", "update"]
        listed = each.program_text()
        for mathml, words in lines[: -len(each.config.model.rule.lines)]:
            assert words in listed
            assert ET.fromstring(mathml).get("alttext") == words
            assert mathml in written
            assert f"<td>{escape(words)}</td>" in written
            assert f"    {words}\n" in as_markdown(report)
        rule = each.config.model.rule.lines
        assert [words.partition(" ")[0] for _, words in report.equations[-1][1]][-1] == "W"
        assert len(report.equations[-1][1]) == len(rule)


@pytest.mark.skipif(chromium.PROGRAM is None, reason="needs Chromium")
def test_a_browser_sets_the_equations(tutorial, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(report_html(tutorial.report()), encoding="utf-8")
    page = chromium.Chromium(dark=False)
    try:
        page.open(path.as_uri(), "true")
        every = "[...document.querySelectorAll('math')]"
        (line,) = page.run(f"{every}.map(m => m.getAttribute('alttext')).filter(t => t.startsWith('h ='))")
        assert line == "h = z⊙hₜ₋₁ + (1 − z)⊙h̃"
        of = f"{every}.find(m => m.getAttribute('alttext') === {json.dumps(line)})"
        box = "(e => { const b = e.getBoundingClientRect(); return [b.top, b.bottom, b.left, b.right] })"
        top, bottom, _, right = page.run(f"{box}({of}.querySelector('msub > mi'))")
        below, _, left, _ = page.run(f"{box}({of}.querySelector('msub > mrow'))")
        assert top < below < bottom  # an index is set below its letter
        assert left >= right - 2
        page.run("document.querySelectorAll('details').forEach(each => { each.open = true })")
        over, under = (page.run(f"{box}(document.querySelector('mfrac').children[{i}])") for i in (0, 1))
        assert over[1] <= under[0]
        selected = page.run(
            f"(() => {{ const r = document.createRange(); r.selectNode({of}.closest('tr')); getSelection().addRange(r); "
            "return getSelection().toString() })()"
        )
        assert line in selected
    finally:
        page.close()


#: The least contrast of a text with what is behind it, as WCAG defines it, by the inks that a browser has computed.
CONTRAST = """(() => {
  const parts = words => words.match(/[\\d.]+/g).map(Number)
  const linear = x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4
  const light = words => { const [r, g, b] = parts(words).map(x => linear(x / 255))
                           return .2126 * r + .7152 * g + .0722 * b }
  const behind = e => { const own = getComputedStyle(e).backgroundColor
                        return parts(own)[3] === 0 ? behind(e.parentElement) : own }
  const contrast = e => { const ink = getComputedStyle(e)[e.closest('svg') ? 'fill' : 'color']
                          const [low, high] = [light(ink), light(behind(e.closest('svg') || e))].sort((a, b) => a - b)
                          return (high + .05) / (low + .05) }
  const written = e => [...e.childNodes].some(each => each.nodeType === 3 && each.data.trim())
  return Math.min(...[...document.body.querySelectorAll('*')].filter(written).map(contrast))
})()"""


@pytest.mark.skipif(chromium.PROGRAM is None, reason="needs Chromium")
def test_a_page_can_be_read_at_night_on_a_phone_and_on_paper(tutorial, tmp_path):
    path, both = tmp_path / "report.html", tmp_path / "both.html"
    path.write_text(report_html(tutorial.report()), encoding="utf-8")
    comparison = RunComparison(tutorial.report("one"), Session().report("other"))
    both.write_text(COMPARISON_WRITERS[".html"](comparison), encoding="utf-8")
    page, grounds = chromium.Chromium(dark=False), set()
    try:
        for file, scheme, width in itertools.product((path, both), ("dark", "light"), (1200, 390)):
            page.prefer(scheme)
            page.resize(width, 800, phone=width < 400)
            page.open(file.as_uri(), "true")
            assert page.run(CONTRAST) >= 4.5
            assert page.run("document.documentElement.scrollWidth") <= width
            grounds.add(page.run("getComputedStyle(document.body).backgroundColor"))
            assert page.run("[...document.querySelectorAll('svg text')].every(e => e.getBoundingClientRect().height > 9)")
        assert len(grounds) == 2
        folded = "[...document.querySelectorAll('details:not([open]) tr')].map(each => each.checkVisibility())"
        page.open(path.as_uri(), "true")
        assert not any(page.run(folded))
        page.prefer("dark", media="print")
        assert len(page.run(folded)) > 10
        assert all(page.run(folded))
        assert page.run("getComputedStyle(document.querySelector('h1')).color") == "rgb(29, 36, 41)"
    finally:
        page.close()


def test_a_page_has_heads_and_its_pictures_say_their_numbers(session, tutorial):
    for each in (session, tutorial):
        report = each.report()
        written = report_html(report)
        rows = re.findall(r"<tr>(.*?)</tr>", re.sub(r"<details.*?</details>", "", written))
        assert all(row.startswith("<th") for row in rows)
        assert re.findall(r"<h(\d)", written)[0] == "1"
        levels = [int(level) for level in re.findall(r"<h(\d)", written)]
        assert all(after <= before + 1 for before, after in pairwise(levels))
        labels = re.findall(r'<svg[^>]*aria-label="([^"]*)"', written)
        assert f"loss {rounded(report.curve[-1][1])}" in labels[0]
        assert all(re.search(r"\d|table below", label) for label in labels)


def test_each_bar_of_a_chart_has_its_name_before_it_and_its_words_after_it():
    drawn, height = svg_bars([("vowels", 2.0, "2.00  60 %"), ("<digits>", 1.0, "1.00  40 %")])
    picture = "".join(drawn)
    texts = re.findall(r'<text x="(\d+)"[^>]*>([^<]*)</text>', picture)
    widths = [float(width) for width in re.findall(r'<rect x="128"[^>]* width="([\d.]+)"', picture)]
    assert [words for x, words in texts if int(x) < 128] == ["vowels", "&lt;digits&gt;"]
    assert [words for x, words in texts if int(x) > 128 + max(widths)] == ["2.00  60 %", "1.00  40 %"]
    assert widths[0] == 2 * widths[1]
    assert height == 36


def test_a_picture_is_a_picture(session, tutorial):
    for each in (session, tutorial, Session()):
        root = ET.fromstring(as_svg(each.report("a & b")))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        width, height = float(root.get("width")), float(root.get("height"))
        rects = root.iter("{http://www.w3.org/2000/svg}rect")
        assert all(float(rect.get("width")) <= width and float(rect.get("height")) <= height for rect in rects)


def test_a_table_of_markdown_keeps_its_columns(session):
    lines = as_markdown(session.report()).splitlines()
    columns = [len(re.split(r"(?<!\\)\|", line)) if line.startswith("|") else 0 for line in lines]
    assert {4, 5, 6} <= set(columns)
    assert all(above == below for above, below in pairwise(columns) if above and below)


def test_weights_that_are_not_finite_leave_the_rest():
    session = Session(learning_rate=3e38)
    session.learning = True
    session.step("epoch", 4)
    for write in WRITERS.values():
        assert "became infinite" in write(session.report())
        assert "remember" not in write(session.report())


@pytest.mark.parametrize("extreme", [np.nan, np.inf, -np.inf])
def test_states_that_are_not_finite_have_no_blocks(session, extreme):
    report = session.report()
    values = report.values.copy()
    values[0, :2], values[1] = (extreme, 1), extreme
    lines = as_markdown(replace(report, values=values)).splitlines()
    names = [f"    unit {note.unit + 1} " for note in report.units[:2]]
    first, second = (next(line.removeprefix(name) for line in lines if line.startswith(name)) for name in names)
    assert first[:2] == " █"
    assert not second.strip()


def test_one_character_that_predictions_need_is_one(session):
    memory = ContextMemory((1, 2), np.ones(2), np.zeros(2), 1.0, 1.0, np.ones(2), np.ones(2))
    assert "Its predictions need 1 character. " in report_html(replace(session.report(), memory=memory))


def test_each_chart_is_a_file_of_its_own(session, tmp_path, capsys):
    saved, out, folder = tmp_path / "run.tui-gru", tmp_path / "run.html", tmp_path / "figures"
    session.save(saved)
    assert main(["report", str(saved), "-o", str(out), "--figures", str(folder)]) == 0
    report = session.report("run")
    assert sorted(path.stem for path in folder.iterdir()) == sorted(figure.name for figure in (report.loss, *report.figures))
    for figure in (report.loss, *report.figures):
        assert (folder / f"{figure.name}.svg").read_text() == figure_svg(figure)
        assert ET.fromstring(figure_svg(figure)).tag == f"{SVG}svg"
    assert main(["report", str(saved), "-o", str(out), "--figures", str(out)]) == 2
    assert "name another folder" in capsys.readouterr().err


def test_from_the_command_line(session, tmp_path, capsys):
    saved, out = tmp_path / "run.tui-gru", tmp_path / "run.html"
    session.save(saved)
    before = saved.read_bytes()
    assert main(["report", str(saved), "-o", str(out)]) == 0
    assert out.read_text() == report_html(session.report("run"))
    held_out = tmp_path / "other.txt"
    held_out.write_text(TEXT[5:90])
    assert main(["report", str(saved), "--held-out", str(held_out)]) == 0
    assert capsys.readouterr().out.startswith("# run\n")
    assert saved.read_bytes() == before


@pytest.fixture
def run(tmp_path):
    """A recording of 21 steps, of which every fourth was kept."""
    trained(tmp_path / "run.gru", steps=21, every=4, last=0)
    return tmp_path / "run.gru"


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_recording(run, tmp_path, suffix):
    session = Session.open(run)
    saved, out = tmp_path / "left.tui-gru", tmp_path / f"report{suffix}"
    session.seek("e1 b3 t1")
    session.save(saved)
    losses = [step.loss for step in open_recording(run).steps]
    for source, place in ((run, "step 20"), (saved, "step 8")):
        assert main(["report", str(source), "-o", str(out)]) == 0
        written = out.read_text()
        for words in (place, "6, from step 0 to step 20; 15 others were not kept", rounded(losses[0]), rounded(losses[-1])):
            assert words in written
        for words in ("the output is the expected one", "p.grad is the derived gradient"):
            assert words in written
        assert "amples" not in written
    curve = session.report().curve
    assert [at for at, _ in curve] == list(range(21))  # the losses of all steps, as the script counts them
    assert [curve[step.number][1] for step in open_recording(run).steps] == losses
    assert np.isfinite([loss for _, loss in curve]).all()


def test_a_recording_in_which_a_number_is_not_finite(tmp_path):
    model = torch.nn.GRU(3, 4)

    def break_it(module, inputs):
        if not model.weight_hh_l0.isfinite().all() or calls.append(1) or len(calls) == 6:
            with torch.no_grad():
                model.weight_hh_l0[4, 0] = torch.inf

    calls = []
    model.register_forward_pre_hook(break_it)
    trained(tmp_path / "run.gru", steps=8, every=1, model=model)
    session = Session.open(tmp_path / "run.gru")
    (found,) = [each for each in session.findings() if each.name == "not-finite"]
    assert found.title == "Uz is infinite when step 5 begins"
    session.seek(0)
    assert session.run_to_not_finite()
    assert found.tick == session.position.tick


def test_a_recording_whose_loss_does_not_fall(tmp_path):
    """Its steps have no weights after the update, so nothing can be said about the learning rate."""
    trained(tmp_path / "run.gru", losses=[1.0] * 17, every=1)
    session = Session.open(tmp_path / "run.gru")
    session.seek(session.end)
    assert session.findings() == ()
    assert session.report().curve[-1][1] == 1.0


def test_a_model_file_without_a_loss(tmp_path):
    torch.save(torch.nn.GRU(3, 4, 2).state_dict(), tmp_path / "m.pt")
    session = tui_gru.load(tmp_path / "m.pt")
    for write in WRITERS.values():
        written = write(session.report("m"))
        assert "gru of m.pt" in written
        assert "Loss" not in written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no session nowhere; `tui-gru sessions` lists them"),
        (["strange.txt"], "to open the file of this name, write ./strange.txt"),
        (["run.gru", "--held-out", "strange.txt"], "a run without a text has no held-out text; remove the option"),
        (["run.tui-gru", "-o", "run.pdf"], "a report is .html, .svg, .md"),
        (["run.tui-gru", "--held-out", "strange.txt"], "the text that was held out has 'z', which is not in the vocabulary"),
    ],
)
def test_mistakes(arguments, message, session, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    session.save("run.tui-gru")
    (tmp_path / "strange.txt").write_text("zzz")
    assert main(["report", *arguments]) == 2
    assert_one_line(capsys.readouterr().err, message)


# Two runs beside each other


@pytest.fixture(scope="module")
def compared():
    runs = []
    for options in ({"hidden_size": 5, "learning_rate": 0.01}, {"hidden_size": 9, "learning_rate": 3.0, "cell": "lstm"}):
        run = Session(text=TEXT, batch_size=4, seq_length=8, **options)
        run.learning = True
        run.step("epoch", 4)
        runs.append(run)
    return runs


def test_a_comparison_has_what_differs_and_nothing_else(compared):
    mine, other = compared
    found = mine.compared(other, ("a", "b"))
    differing = {name: (one, two) for name, one, two in found.differing}
    assert differing["hidden-size"] == ("5", "9")
    assert differing["learning-rate"] == ("0.01", "3.0")
    assert differing["cell"] == ("gru", "lstm")
    assert not {"batch-size", "seq-length", "seed", "text", "command", "written", "batches run"} & differing.keys()
    options = [dict(run.report(whole=False).options) for run in compared]
    for name in options[0].keys() | options[1].keys():
        assert (name in differing) == (options[0].get(name) != options[1].get(name)), name
    for line, run in zip(found.loss.lines, compared, strict=True):
        losses = np.asarray(run.snapshot().losses)
        assert [loss for _, loss in line.points] == losses.tolist()
    names = [{finding.name for finding in run.findings()} for run in compared]
    assert [{finding.name for finding in each} for each in found.findings] == [names[0] - names[1], names[1] - names[0]]
    assert found.findings[1]
    for i, run in enumerate(compared):
        assert tuple(pair[i] for pair in found.samples) == run.report(whole=False).samples
    same = mine.compared(mine)
    assert (same.differing, same.findings) == ((), ((), ()))


@pytest.mark.parametrize("suffix", COMPARISON_WRITERS)
def test_two_runs_from_the_command_line(compared, suffix, tmp_path, capsys):
    names = [tmp_path / "small.tui-gru", tmp_path / "large <b>.tui-gru"]
    for run, path in zip(compared, names, strict=True):
        run.save(path)
    out = tmp_path / f"both{suffix}"
    assert main(["report", *map(str, names), "-o", str(out), "--figures", str(tmp_path / "charts")]) == 0
    written = out.read_text()
    assert ("large &lt;b&gt;" if suffix != ".md" else "large <b>") in written
    for words in ("small", "hidden-size", "lstm"):
        assert words in written
    (figure,) = (tmp_path / "charts").iterdir()
    _, lines = places(figure.read_text())
    assert len(lines) == 2
    assert main(["report", *map(str, names), str(names[0])]) == 2
    assert "compares two; there are 3" in capsys.readouterr().err


def test_a_run_beside_a_recording(compared, tmp_path):
    folder, path = tmp_path / "rec.gru", tmp_path / "run.tui-gru"
    trained(folder)
    compared[0].save(path)
    assert main(["report", str(path), str(folder), "-o", str(tmp_path / "both.md")]) == 0
    written = (tmp_path / "both.md").read_text()
    assert "# run and rec.gru" in written
    assert "| kept steps |  | " in written
