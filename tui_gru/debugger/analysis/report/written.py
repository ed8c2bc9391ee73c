"""Writes a report as a page, a picture or a text. Each is a single file without scripts, fonts or references."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from html import escape

from tui_gru.debugger.analysis.report import pictures
from tui_gru.debugger.analysis.report.gathered import printable_text
from tui_gru.debugger.analysis.report.pictures import CURVE_HEIGHT, WIDTH, moved, svg, text
from tui_gru.debugger.analysis.report.report import RunReport, UnitNote
from tui_gru.engine.numbers import rounded

_STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2429; background: #fbfaf6; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } code, pre, td { font-family: ui-monospace, monospace; }
table { border-collapse: collapse; } td { padding: .1rem 1rem .1rem 0; vertical-align: top; font-size: .9rem; }
td:first-child { color: #566168; } svg { max-width: 100%; height: auto; } mark { background: #f4c542; }
.finding { border-left: 4px solid #b3261e; padding-left: 1rem; margin: 1rem 0; } .finding ul { margin: .3rem 0; }
"""
#: A command; or an option, with its value if that is a number or the last word of a clause.
_TYPED = re.compile(r"(^:.*|--[a-z-]+(?: (?:\d[\w.+-]*|\w+\b(?! \w)))?)")
_SIGN = "▲"
_BLOCKS = "▁▂▃▄▅▆▇█"


def as_html(report: RunReport) -> str:
    """Return the report as an HTML page with embedded pictures."""
    parts = [f"<h1>{escape(printable_text(report.title))}</h1>", _table(report.facts)]
    if has_curve(report):
        parts.append(_section("Loss", svg(pictures.curve(report), WIDTH, CURVE_HEIGHT, label="the loss of the run")))
    parts.append(_section(f"Findings: {len(report.findings) or 'none'}", "".join(_findings_html(report))))
    if report.units:
        parts.append(_section(f"Units of {report.name} over the text", _units_html(report)))
    if report.classes:
        parts.append(_section("Sources of the loss", _classes_html(report)))
    if report.samples:
        parts.append(_section("Samples", _table([(words, printable_text(drawn)) for words, drawn in report.samples])))
    parts.append(_section("Configuration", _table(report.options)))
    head = f'<meta charset="utf-8"><title>{escape(printable_text(report.title))}</title><style>{_STYLE}</style>'
    return f'<!DOCTYPE html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def has_curve(report: RunReport) -> bool:
    """Return True if the run has a loss, or will have one, as every run on a text."""
    return bool(report.curve or report.lines)


def _section(heading: str, content: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{content}</section>"


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return f"<table>{''.join(f'<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>' for a, b in rows)}</table>"


def _marked(place: tuple[str, str, str]) -> str:
    before, char, after = (escape(printable_text(part)) for part in place)
    return f"{before}<mark>{char}</mark>{after}"


def _findings_html(report: RunReport) -> list[str]:
    return [
        f'<div class="finding"><strong>{escape(each.title)}</strong><p>{escape(each.meaning)}</p>'
        f"<ul>{''.join(f'<li>{escape(evidence.words)}</li>' for evidence in each.evidence)}</ul>"
        f"<p>Cure: {_cure(each.cure, escape, '<code>{}</code>')}</p></div>"
        for each in report.findings
    ]


def _cure(words: str, write: Callable[[str], str], code: str) -> str:
    """Return a cure with all that can be typed in the form `code`: a command, or an option with its value."""
    return "".join(code.format(write(part)) if i % 2 else write(part) for i, part in enumerate(_TYPED.split(words)))


def _units_html(report: RunReport) -> str:
    drawn, height = pictures.heat_map(report)
    rows = (
        f"<tr><td>unit {note.unit + 1}</td><td>{escape(_correlated(note))}</td>"
        f"<td>{'  ·  '.join(map(_marked, note.places))}</td></tr>"
        for note in report.units
    )
    words = "<p>Each unit with the class of characters it correlates with most (Pearson's r), and where it is strongest.</p>"
    heat = svg(drawn, WIDTH + 140, height, label="units over the text")
    return f"{heat}{words}<table>{''.join(rows)}</table>"


def _classes_html(report: RunReport) -> str:
    drawn, height = pictures.classes(report)
    rows = (f"<tr><td>{loss:.2f}</td><td>{_marked(place)}</td></tr>" for place, loss in report.hardest)
    words = "<p>Nats by class of the character to be predicted, and its share of the total; then the hardest places.</p>"
    bars = svg(drawn, 420, height, label="the loss of each class of characters")
    return f"{words}{bars}<table>{''.join(rows)}</table>"


def _correlated(note: UnitNote) -> str:
    """Return the class that a unit correlates with, and the correlation."""
    return f"{note.goes_with} {note.r:+.2f}"


def as_svg(report: RunReport) -> str:
    """Return the report as one picture, with curve, findings, units, classes and samples below each other."""
    drawn, y = [text(0, 20, printable_text(report.title), size=18, bold=True)], 44
    for name, value in report.facts:
        drawn.append(text(0, y, f"{name}: {value}"))
        y += 16
    if has_curve(report):
        drawn.append(moved(pictures.curve(report), 0, y))
        y += 270

    def heading(words: str) -> None:
        nonlocal y
        drawn.append(text(0, y, words, size=14, bold=True))
        y += 20

    def lines(words: str, indent: int = 0) -> None:
        nonlocal y
        for line in textwrap.wrap(" ".join(words.split()), 128 - indent // 8, break_on_hyphens=False):
            drawn.append(text(indent, y, line))
            y += 16

    heading(f"findings: {len(report.findings) or 'none'}")
    for each in report.findings:
        lines(f"{_SIGN} {each.title}")
        lines(each.meaning, 16)
        for evidence in each.evidence:
            lines(f"· {evidence.words}", 16)
        lines(f"cure: {each.cure}", 16)
        y += 6
    for title, (elements, height) in (
        (f"units of {report.name} over the text", pictures.heat_map(report) if report.units else ([], 0)),
        ("sources of the loss: nats by class of character", pictures.classes(report)),
    ):
        if elements:
            y += 14
            heading(title)
            drawn.append(moved(elements, 0, y - 12))
            y += height
    y += 14
    if report.samples:
        heading("samples")
    for words, sampled in report.samples:
        lines(f"{words}: {printable_text(sampled)}")
    background = f'<rect width="{WIDTH + 200}" height="{y + 24}" fill="#fbfaf6"/>'
    return svg([background, moved(drawn, 24, 16)], WIDTH + 200, y + 24, label=printable_text(report.title)) + "\n"


def as_markdown(report: RunReport) -> str:
    """Return the report as Markdown, with the curve and the units drawn with block characters."""
    out = [f"# {printable_text(report.title)}", "", *_rows(("", ""), report.facts), "", *_curve_markdown(report)]
    out += [f"## Findings: {len(report.findings) or 'none'}", ""]
    for each in report.findings:
        out += [f"### {each.title}", "", each.meaning, ""]
        out += [*(f"- {evidence.words}" for evidence in each.evidence), f"- cure: {_cure(each.cure, str, '`{}`')}", ""]
    if report.units:
        out += [f"## Units of {report.name} over the text", "", *_units_markdown(report), ""]
    if report.classes:
        out += ["## Sources of the loss", ""]
        shares = [(each.name, f"{each.mean:.2f}", f"{100 * each.share:.0f} %") for each in report.classes]
        out += [*_rows(("class", "nats", "share"), shares), ""]
    if report.samples:
        out += ["## Samples", "", *(f"- {words}: `{printable_text(sampled)}`" for words, sampled in report.samples), ""]
    out += ["## Configuration", "", *_rows(("", ""), report.options)]
    return "\n".join(out) + "\n"


def _curve_markdown(report: RunReport) -> list[str]:
    out = ["## Loss", ""] if has_curve(report) else []
    if finite := [loss for _, loss in report.curve if math.isfinite(loss)]:
        step = max(1, len(finite) // 80)
        out += [f"    {_blocks(finite[::step])}", ""]
        out += [f"{rounded(finite[0])} at the beginning, {rounded(finite[-1])} at the end. " + _comparison(report), ""]
    return out


def _units_markdown(report: RunReport) -> list[str]:
    """Return a table of the units, and a line of blocks for each of them below the text."""
    rows = []
    for note in report.units:
        places = (f"`{''.join(map(printable_text, place))}`" for place in note.places)
        rows.append((f"unit {note.unit + 1}", _correlated(note), " · ".join(places)))
    width = max(len(name) for name, *_ in rows)
    text_line = f"    {'':{width}} {''.join(printable_text(char[:1]) for char in report.text)}"
    drawn = [f"    {name:>{width}} {_blocks(values.tolist())}" for (name, *_), values in zip(rows, report.values, strict=True)]
    return [*_rows(("unit", "goes with", "strongest after"), rows), "", text_line, *drawn]


def _comparison(report: RunReport) -> str:
    return f"For comparison: {', '.join(f'{name} {rounded(value)}' for name, value in report.lines)}." if report.lines else ""


def _blocks(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(_BLOCKS[min(int((value - low) / span * len(_BLOCKS)), len(_BLOCKS) - 1)] for value in values)


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    first, *others = (f"| {' | '.join(row)} |" for row in cells)
    return [first, f"|{'---|' * len(head)}", *others]


#: By the ending of the file name.
WRITERS: Mapping[str, Callable[[RunReport], str]] = {".html": as_html, ".svg": as_svg, ".md": as_markdown}
