"""More room never shows less: no panel loses numbers, digits or rows that it had on a smaller screen."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise

import pytest

from tests.tui.panels.sessions import at, large
from tui_gru import Session
from tui_gru.tui.app import make_app
from tui_gru.tui.draw import Cell
from tui_gru.tui.headless import headless
from tui_gru.tui.panel import Panel, View
from tui_gru.tui.panels.line import CurrentLine
from tui_gru.tui.panels.sequence import Samples, Sequence
from tui_gru.tui.panels.values import LossTerms, Softmax, ValueMatrix
from tui_gru.tui.panels.weights import Overview, ParameterMatrix
from tui_gru.tui.terminal import drawn_later

MOMENTS = {
    "z": at("z", 1),
    "loss": at("loss"),
    "backward": at("dz", 1),
    "large": at("y_hat", 3, make=large),
    "large backward": at("dz", 3, make=large),
}


def shown_in(rows):
    """Return how many numbers of the run and letters of the batch rows show, and the digits of the shortest decimal."""
    cells = [segment for row in rows for segment in row if isinstance(segment, Cell)]
    return len({cell.ref for cell in cells}), min(filter(None, map(digits_of, {cell.text for cell in cells})), default=0)


@cache
def digits_of(text):
    """Return the number of digits of a decimal, 0 for another text."""
    return len(re.sub(r"\D", "", text)) if re.search(r"\d\.\d", text) else 0


def no_less(shown, sizes, name=""):
    for smaller, larger in pairwise(sizes):
        for few, many in zip(shown[smaller], shown[larger], strict=True):
            assert many >= few, (name, smaller, shown[smaller], larger, shown[larger])


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", [Softmax, LossTerms, Sequence, Samples])
def test_in_a_panel(content, kind, moment):
    panel, snapshot, shown = kind(), MOMENTS[moment], {}
    for widths, heights in ((range(30, 160), (4, 14)), ((33, 54, 110), range(4, 31))):
        for size in ((width, height) for width in widths for height in heights if (width, height) not in shown):
            shown[size] = shown_in(content(panel, snapshot, *size).box.rows[: size[1]])
        if len(widths) > len(heights):
            for height in heights:
                no_less(shown, [(width, height) for width in widths])
        else:
            for width in widths:
                no_less(shown, [(width, height) for height in heights])


def by_sheet(rows, whole):
    """Return for weights, gradients and changes whether rows show the `whole` number of them, and the digits of the shortest
    decimal. Of what is cut, other parts may be in view on a larger screen."""
    cells = [segment for row in rows for segment in row if isinstance(segment, Cell) and segment.ref is not None]
    sheets = [], [], []
    for cell in cells:
        sheets[2 if cell.ref.change else cell.ref.name.startswith("d")].append(cell)
    return tuple(found for numbers, digits in map(shown_in, zip(sheets)) for found in (numbers == whole, digits))


@pytest.mark.parametrize("options", [{}, {"cell": "lstm"}, {"layers": 2, "bidirectional": True}], ids=str)
@pytest.mark.parametrize("target", ["z", "dWz", "Wz"])
def test_in_the_weights(content, target, options):
    session = Session(**options)
    session.learning = True
    session.step("batch")
    code = {"z": session.program.parameters[0][1:], "dWz": f"d{session.program.parameters[0]}", "Wz": session.program.parameters[0]}
    session.step("op", session.program.tick_of(code[target], None if target == "Wz" else 1))
    panel, snapshot, shown = Overview(), session.snapshot(), {}
    names = session.program.parameters_with(View().layer_of(snapshot))
    whole = sum(snapshot.parameter(name).size for name in names)
    widths, heights = (*range(50, 240, 3), 79, 80), (8, 10, 12, 21, 24, 33, 40)
    for size in ((width, height) for width in sorted(widths) for height in heights):
        shown[size] = by_sheet(content(panel, snapshot, *size).box.rows[: size[1]], whole)
    for height in heights:
        no_less(shown, [(width, height) for width in sorted(widths)])
    for width in widths:
        no_less(shown, [(width, height) for height in heights])


WIDTHS = [(width, height) for height in (24, 36) for width in (60, 70, 79, 80, 99, 100, 119, 120, 140, 159, 160, 180, 200)]
HEIGHTS = [(width, height) for width in (80, 160) for height in (20, 21, 22, 23, 24, 29, 30, 36, 42, 48, 60)]


@pytest.mark.parametrize(
    ("target", "options"), [("z", {}), ("dz", {}), ("h", {"cell": "lstm"}), ("z", {"hidden_size": 64})], ids=str
)  # samples of the LSTM only
async def test_on_the_pages_of_a_screen(target, options):
    """Of each panel, the page is taken that shows the most of it. The weights of a small model, whose gradients and changes come
    beside them where there is room, are shown in parts on a larger screen, and can be scrolled.

    Those of a large model have the width of the screen below the listing, and less beside it, where more panels are on a page.
    A line that has its page for itself, on a low screen, is compared with others that have: beside other panels it may be shorter.
    That of a large model may have an entry written out in the place of digits of the others. But every screen shows of its result
    a row of the batch, of a large model an entry.
    """
    session = Session(**options)
    session.learning = True
    session.step("op", session.program.tick_of(target, 1))
    if "cell" in options:
        session.sample("Ma", length=10, sampler="tutorial")
        session.sample("Ma", length=10, sampler="fed-back")
    app, shown, large = make_app(session), {}, "hidden_size" in options
    async with headless(app, WIDTHS[0], drawn=False) as pilot:
        with drawn_later(app):  # panels are built where they are read
            for size in dict.fromkeys((*WIDTHS, *HEIGHTS)):
                await pilot.resize_terminal(*size)
                shown[size] = await most_on_any_page(app, pilot)
                assert shown[size].pop("result")[0] >= (1 if large else 2), size
    names = {name for of_size in shown.values() for name in of_size}
    for sizes in (WIDTHS, HEIGHTS):
        for smaller, larger in pairwise(sizes):
            if smaller[0] == larger[0] or smaller[1] == larger[1]:
                for name in names:
                    of_panel = {size: shown[size].get(name, (0, 0)) for size in (smaller, larger)}
                    alike = name in shown[larger] and not (large and name.startswith("CurrentLine"))
                    if alike or not name.startswith(("CurrentLine", "ParameterMatrix")):
                        no_less(of_panel, [smaller, larger], name)


async def most_on_any_page(app, pilot):
    most = {}
    panels = app.screen.panels
    for page in (panels.page, *({*range(1, panels.pages + 1)} - {panels.page})):
        if page != panels.page:
            panels.turn_to(page)
            await pilot.pause()
        seen = [panel for panel in app.screen.query(Panel) if panel.region.height]
        beside = any(isinstance(panel, ValueMatrix | Softmax | Overview | ParameterMatrix) for panel in seen)
        for panel in seen:
            if isinstance(panel, Overview):
                continue
            top, height = panel.scroll_offset.y, panel.content_size.height
            panel.render_line(0)  # builds it, if it is not drawn yet
            name = getattr(panel, "value_name", type(panel).__name__)
            texts = [strip.text for strip in panel.drawn[top : top + height]]
            if isinstance(panel, ValueMatrix):
                numbers = re.findall(r"\d\.\d+|·|\b0\b", "\n".join(texts)) if panel.as_numbers else []
                digits = [len(number) for number in numbers if "." in number]
                found = len(numbers), min(digits, default=0)
            elif isinstance(panel, ParameterMatrix):
                entries = [entry for y in range(height) for entry in re.findall(r"[+-]\d", panel.render_line(y).text)]
                found = len(entries), int(bool(entries))
                name += " beside the listing" if panel.region.x else ""
            else:
                found = shown_in(panel.drawn[top : top + height])
            if isinstance(panel, CurrentLine):
                target = app.screen.snapshot.line.target
                cells = [cell for row in panel.drawn[top : top + height] for cell in row if isinstance(cell, Cell)]
                most["result"] = len({cell.ref.index for cell in cells if cell.ref.name == target}), 0
                name += "" if beside else " alone"
            most[name] = max(most.get(name, (0, 0)), found)
    return most
