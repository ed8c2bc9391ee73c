"""Statements about what the program shows of a run. Each compares it with the numbers of the run, and returns what is false."""

from __future__ import annotations

import base64
import gzip
import html
import json
import math
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from tests.bad_days import Facts
from tui_gru import Session, TuiGruError
from tui_gru.cli.commands import main
from tui_gru.debugger.derivation import Node, Path, laid_out
from tui_gru.storage.trace import json_text
from tui_gru.tui.app import make_app
from tui_gru.tui.console import Console
from tui_gru.tui.draw import Cell
from tui_gru.tui.headless import headless, until_idle
from tui_gru.tui.keys import Verb, example
from tui_gru.tui.matrix import MatrixView
from tui_gru.tui.panel import Panel
from tui_gru.tui.screen import MainScreen
from tui_gru.tui.verbs import VERBS


class Shown(NamedTuple):
    """A text that the program shows, and where."""

    where: str
    text: str


def assert_none(faults: Sequence[str]) -> None:
    """Fail with each false statement on a line."""
    if faults:
        raise AssertionError("\n".join(["these are false:", *dict.fromkeys(faults)][:30]))


#: What is written for a number that is not known, or by mistake for nothing.
UNKNOWN = re.compile(r"(?<![\w.>])[+−-]?(?:nan|NaN|inf|Infinity|None|null|undefined)(?![\w(])")
#: More digits than a float64 has, 17, not counting zeros at the beginning.
LONG = re.compile(r"(?<![\d.,])0?[0,.]*[1-9](?:[,.]?\d){17,}")
BROKEN = re.compile(r"Traceback|internal error|object at 0x|<built-in")
ALARM = re.compile(r"not finite|✗|\bexplod|\bdiverg|\bNaN\b|look at the head")
NUMBER = re.compile(r"([+−-]?)(\d[\d,]*\.?\d*|\.\d+)(?:e([+−-]?\d+))?")
#: Verbs that explain the program, or a sign of it, and say nothing about a run.
_HELP = {"help", "legend", "tour", "command", "stops", "marks", "breakpoint", "until", "back.until"}
#: Verbs that end the program, or need a screen with eyes.
_ENDING = {"quit", "interrupt", "suspend", "play", "play.faster", "play.slower", "command", "repeat"}


#: The norm of a supposed gradient whose entries are finite, and their squares are not.
_OVERFLOW = re.compile(r"‖∇‖ .*\+inf\b.*")


def false_words(shown: Iterable[Shown], facts: Facts) -> list[str]:
    """Return what is shown that no run of this kind may show: a number that is not known, an alarm about a healthy run."""
    faults = []
    for where, words in shown:
        text = re.sub(r"0 ·\s+log\s+0\s+=\s+NaN", "", words)  # an explanation, on one line or two
        forbidden = [BROKEN, LONG]
        if facts.finite:
            forbidden += [UNKNOWN] if where.split()[-1] not in _HELP else []
            forbidden += [ALARM] if not facts.causes and where.split()[-1] not in _HELP else []
        for pattern in forbidden:
            for match in pattern.finditer(text):
                begin = text.rfind("\n", 0, match.start()) + 1
                end = text.find("\n", match.end())
                if pattern is UNKNOWN and _OVERFLOW.fullmatch(text[begin : end if end >= 0 else None].strip()):
                    continue
                faults.append(f"{where}: {match[0]!r} in {text[begin : end if end >= 0 else None].strip()[:160]!r}")
    return faults


def agrees(written: str, number: float) -> bool | None:
    """Return True if a number is what is written, to its last digit; None if what is written is no number."""
    written = written.strip()
    if re.fullmatch(r"[+−-]?(nan|inf)", written):
        return not math.isfinite(number) and written.strip("+−-") == str(abs(number))
    if re.fullmatch(r"[+−-]0\.", written):  # what is not 0, where there is no room for its exponent
        return 0 < abs(number) < 0.05 and (number > 0) == (written[0] == "+")
    match = NUMBER.fullmatch(written)
    if match is None:
        return None
    if not math.isfinite(number):
        return False
    digits = Decimal(match[2].replace(",", "")).scaleb(int((match[3] or "0").replace("−", "-")))
    value = -digits if match[1] in ("−", "-") else digits
    if not value and number:
        return False
    last = Decimal(1).scaleb(value.as_tuple().exponent)  # type: ignore[arg-type]
    rounding = Decimal(float(np.spacing(np.float32(min(abs(number), 3e38)))))
    return abs(value - Decimal(number)) <= last / 2 + rounding


def false_cells(panel: Panel, session: Session) -> Iterator[str]:
    """Yield the cells of a panel that show another number than the run has."""
    kind = type(panel).__name__
    for strip in panel.drawn:
        for segment in strip:
            if isinstance(segment, Cell) and not segment.ref.change and not segment.ref.before:
                ref = segment.ref
                value = session.value(ref.name, ref.t)
                if value is not None and np.ndim(value) == len(ref.index):
                    number = float(np.asarray(value)[ref.index])
                    if agrees(segment.text, number) is False:
                        yield f"{kind}: {segment.text!r} for {ref.name}{list(ref.index)} = {number!r}"
    if isinstance(panel, MatrixView) and panel.values is not None and panel.as_numbers and panel.region:
        for row, strip in zip(panel.values, panel.drawn, strict=False):
            for written, number in zip(strip.text.strip("()⎛⎞⎜⎟⎝⎠ ").split(), row.tolist(), strict=False):
                if agrees(written, number) is False:
                    yield f"{kind} {panel.title}: {written!r} for {number!r}"


def false_rows(root: Node) -> Iterator[str]:
    """Yield the rows of a derivation whose number is not that of their term."""
    opened = frozenset(_near(root))
    for row in laid_out(root, opened):
        if row.node is not None:
            node = row.node
            if not any(agrees(row.written, value) is not False for value in (node.value, node.contribution)):
                yield f"where {root.label} comes from: {row.written} for {row.label} = {node.value!r}"


def _near(node: Node, path: Path = (), depth: int = 4) -> Iterator[Path]:
    if depth and node.derivation.near:
        for i, term in enumerate(node.terms):
            yield (*path, i)
            yield from _near(term, (*path, i), depth - 1)


def trees(session: Session) -> Iterator[Node]:
    """Yield the derivations of the loss, of the largest entry of each weight, and of the last state."""
    names = ["loss", session.program.main_state, *session.parameter_names]
    for name in names:
        value = session.value(name)
        if value is not None and np.size(value):
            size = np.abs(np.nan_to_num(np.asarray(value, float), posinf=math.inf))
            for index in {np.unravel_index(int(choose(size)), size.shape) for choose in (np.argmax, np.argmin)}:
                try:
                    yield session.explain(name, tuple(map(int, index)))
                except TuiGruError:
                    continue


async def panels(session: Session, size: tuple[int, int]) -> AsyncIterator[tuple[str, Panel]]:
    """Yield every panel on every page of a screen of a size, by its name."""
    app = make_app(session)
    async with headless(app, size, drawn=False) as pilot:
        screen = app.screen
        assert isinstance(screen, MainScreen)
        for page in range(screen.panels.pages):
            if page:
                await pilot.press("v")
                await until_idle(pilot)
                await pilot.pause()
            for panel in screen.walk_children(Panel):
                if panel.region:
                    yield f"{size[0]}x{size[1]}, page {page + 1}, {type(panel).__name__}", panel


class Answered(NamedTuple):
    """The answer of a verb: as text, as data, and as a line of JSON; `refused` is the reason for which it has none."""

    verb: Verb[Any]
    command: str
    text: str = ""
    data: Any = None
    json: str = ""
    refused: str = ""


def answers(session: Session, verbs: Sequence[Verb[Any]] = VERBS) -> Iterator[Answered]:
    """Yield what verbs answer, one after the other, as `tui-gru run --json` prints it."""
    console = Console(session)
    try:
        for verb in verbs:
            if verb.id in _ENDING:
                continue
            command = (verb.names or verb.keys.split(","))[0]
            if verb.typed:
                command = example(session.program, verb.usage)
            try:
                answer = console.execute(command)
            except TuiGruError as error:
                yield Answered(verb, command, refused=str(error))
                continue
            found = {"command": command, "answer": answer.text, "position": answer.place, "data": answer.data}
            line = json_text(found)
            json.loads(line, parse_constant=_no_constant)
            yield Answered(verb, command, answer.text, answer.data, line)
            if verb.id == "silence":  # the run again
                console.execute(command)
    finally:
        console.close()


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


# ------------------------------------------------------------------------------
# Findings, and the first number that is not finite.


def false_findings(names: Sequence[str], facts: Facts) -> list[str]:
    """Return what is false about the names of the findings of a run, in their order."""
    own = [name for name in names if name != "script-ended" or not facts.ended]
    if not facts.causes:
        return [f"{name}: this run is healthy" for name in own]
    if facts.recorded is None and not own:
        return []
    return [] if own and own[0] in facts.causes else [f"the first finding must be one of {sorted(facts.causes)}, not one of {own}"]


def false_first_number(session: Session, facts: Facts, *, of_script: bool) -> list[str]:
    """Look for the first number that is not finite, and return what is false about the answer."""
    session.seek(session.newest)
    found = session.run_to_not_finite()
    step = session.position.number if not of_script else session.steps[session.position.batch]
    if facts.bad_step is None or facts.recorded is False:
        return [f"{session.notice}: every number is finite"] if found or ALARM.search(session.notice) else []
    if facts.bad_part == "loss" and not found and f"the loss of step {facts.bad_step}" in session.notice:
        return []
    if not found and not facts.bad_part:  # the norm of a gradient whose entries are finite
        words = f"the norm of the gradient of batch {facts.bad_step + 1} of epoch "
        return [] if words in session.notice else [f"{session.notice}: the norm of batch {facts.bad_step} overflows"]
    if not found or step != facts.bad_step:
        return [] if facts.recorded is None and not found else [f"{session.notice}, in step {step}: it is in step {facts.bad_step}"]
    line, notice = session.position.line, session.notice
    right = {
        "weights": "when the batch begins" in notice,
        "input": " x[" in notice,
        "output": session.position.phase == "forward" and "when the batch begins" not in notice,
        "loss": session.position.phase == "backward",
        "gradient": session.position.phase == "backward",
    }
    if of_script or facts.bad_part == "weights":
        return [] if right[facts.bad_part] else [f"{notice}: it is in the {facts.bad_part}"]
    return [] if line is not None and line.target == facts.bad_part else [f"{notice}: it is {facts.bad_part}"]


def false_losses(session: Session, facts: Facts) -> list[str]:
    """Return what is false about the loss of the batch at the end of which a session is."""
    number = session.steps[session.position.batch] if session.steps else session.position.number
    own, loss = session.loss, facts.losses[number]
    known = own is not None and not math.isnan(own)
    if loss is None or math.isnan(loss):
        return [f"the loss of step {number} is {own}, not {loss}"] if known or (loss is None and own is not None) else []
    return [] if own == loss else [f"the loss of step {number} is {own}, not {loss}"]


# ------------------------------------------------------------------------------
# Pages.


def of_page(page: str) -> str:
    """Return what a page shows as text, with every moment of those that step."""
    inner = [html.unescape(page) for page in re.findall(r'srcdoc="([^"]*)"', page)]
    packed = [json.loads(gzip.decompress(base64.b64decode(data))) for data in re.findall(r'<script id="data"[^>]*>([^<]*)<', page)]
    words = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return "\n".join([html.unescape(re.sub(r"<[^>]+>", "\n", words)), *map(of_page, inner), *_texts(packed)])


def _texts(value: Any, between: str = "") -> Iterator[str]:
    """Yield the texts in the data of a page, those of a row in one; the columns of a derivation are apart."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, " " if name == "derivations" else between)
    elif isinstance(value, list):
        yield between.join(item for item in value if isinstance(item, str))
        for item in value:
            if not isinstance(item, str):
                yield from _texts(item, between)


def pages(session: Session, findings: Iterable[Any] = ()) -> Iterator[Shown]:
    """Yield what a notebook shows of a session, its findings and its trees."""
    yield Shown("the moments in a notebook", of_page(session._repr_html_()))
    yield Shown("the findings in a notebook", of_page("".join(each._repr_html_() for each in findings)))
    for tree in trees(session):
        yield Shown("a tree in a notebook", of_page(tree._repr_html_()))


def reports(path: Any, folder: Any) -> Iterator[Shown]:
    """Yield the reports on a session or recording, as the program writes them into a folder."""
    for suffix in (".md", ".html"):
        out = folder / f"report{suffix}"
        assert main(["report", str(path), "-o", str(out)]) == 0
        yield Shown(f"report{suffix}", of_page(out.read_text(encoding="utf-8")))
