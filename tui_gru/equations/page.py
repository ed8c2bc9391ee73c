"""A page of equations: reads a file, and composes the pieces of a model, built-in or of the user, into one page."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any, NamedTuple
from unicodedata import normalize

from tui_gru import errors
from tui_gru.equations import syntax as e
from tui_gru.errors import TuiGruError

# ------------------------------------------------------------------------------
# A page of equations, which is the content of an equation file, and its reader.


LONGEST = 200_000  # characters in a file
MOST_LINES = 500  # formulas in a file


class Input(NamedTuple):
    """An input of every timestep, (B, axis), or (B) without an axis. A `target` is the value to predict."""

    axis: str
    one_hot: bool = False
    target: bool = False


class CarriedState(NamedTuple):
    """A value carried to the next timestep, (B, axis); with `backwards`, carried to the previous timestep."""

    axis: str
    backwards: bool = False


@dataclass(frozen=True)
class Equation:
    """A line of the form `target op formula`. `label` names the gradient's path through the line; `note` explains the line in a
    sentence."""

    target: str
    formula: e.Expression
    op: str = "="
    label: str = ""
    note: str = ""
    span: e.SourceSpan | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Page:
    """The content of one file, or of several joined.

    `parameters` has the declared axes of each parameter, () if they are to be inferred, and `initial` the number that all entries
    of one begin with, where it is declared. `reads` is the name that a piece reads from the piece before it. `outputs` are values
    whose gradients are given from outside; a page without outputs ends with its loss. `differentiated` are inputs whose gradients
    are derived too. `ends` has the axes that some lines must have, besides those that every timestep has: a head ends with V, a
    loss with none. `symbols` maps a name to its on-screen and LaTeX spelling, `settings` the constants of an update rule to their
    defaults, `meanings` those to the comments behind them, `places` a name to the place where it is declared or computed. `source`
    is the name of the file, empty for a page that does not come from one.
    """

    title: str = ""
    source: str = ""
    reads: str = "x"
    inputs: Mapping[str, Input] = field(default_factory=dict)
    states: Mapping[str, CarriedState] = field(default_factory=dict)
    parameters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    initial: Mapping[str, float] = field(default_factory=dict)
    lines: tuple[Equation, ...] = ()
    outputs: tuple[str, ...] = ()
    differentiated: tuple[str, ...] = ()
    ends: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    symbols: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    settings: Mapping[str, float] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, e.SourceSpan] = field(default_factory=dict, compare=False, repr=False)

    @property
    def output(self) -> str:
        """The name of the output: the target of the last line, or the input if the piece has no lines."""
        return self.lines[-1].target if self.lines else next(iter(self.inputs))

    def before(self, state: str) -> str:
        """Return the name of a state as a timestep reads it: h_prev, or h_next if the state runs backwards."""
        return e.with_word(state, "next" if self.states[state].backwards else "prev")

    def received(self, state: str) -> str:
        """Return the name of the gradient that a state receives from the timestep that reads it: dh_future, or dh_past."""
        return e.with_word(f"d{state}", "past" if self.states[state].backwards else "future")


def read_page(text: str, source: str) -> Page:
    """Read a page from the text of a file. `source` is its name in messages. Raises `EquationError` with line and column."""
    if len(text) > LONGEST:
        raise e.EquationError(f"the file has {len(text):,} characters; an equation file has at most {LONGEST:,}", source=source)
    lines = re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff"))
    return _PageReader(e.File(source, tuple(lines))).page()


_LINE = re.compile(r"\s*+(?:(?P<label>[^\W\d]\w*)\s*:(?!=))?\s*(?P<target>[^\s=:−+-]+)\s*(?P<op>−=|-=|\+=|=)(?P<formula>.*)")


class _PageReader:
    """Reads one file, line by line."""

    def __init__(self, file: e.File) -> None:
        self._file, self._page = file, Page(source=file.name)
        self._inputs: dict[str, Input] = {}
        self._states: dict[str, CarriedState] = {}
        self._parameters: dict[str, tuple[str, ...]] = {}
        self._initial: dict[str, float] = {}
        self._settings: dict[str, float] = {}
        self._meanings: dict[str, str] = {}
        self._symbols: dict[str, tuple[str, str]] = {}
        self._name_of_symbol: dict[str, str] = {}  # symbol -> the name it stands for
        self._lines: list[Equation] = []
        self._outputs: list[str] = []
        self._places: dict[str, e.SourceSpan] = {}  # the place where each name is declared or computed
        self._declared_at: dict[str, e.SourceSpan] = {}  # the places of other declarations: reads, output h, symbol o
        self._words: dict[str, Callable[[list[e.Token]], None]] = {
            "reads": self._reads,
            "input": self._input,
            "target": self._target,
            "state": self._state,
            "parameters": self._parameter_list,
            "parameter": self._parameter_list,
            "output": self._output,
            "setting": self._setting,
            "symbol": self._symbol,
        }

    def page(self) -> Page:
        for number, text in enumerate(self._file.lines, 1):
            content, _, comment = text.partition("#")
            if not content.strip():
                if comment and not self._page.title and not self._lines:
                    self._page = replace(self._page, title=comment.strip())
                continue
            self._statement(content, number, comment.strip())
        defined = {*self._inputs, *self._parameters, *self._settings, *(line.target for line in self._lines)}
        for name in self._outputs:
            if name not in defined:
                raise e.EquationError(
                    f"no line computes {name}; {e.did_you_mean(name, defined)}", self._declared_at[f"output {name}"]
                )
        for symbol, name in self._name_of_symbol.items():
            if symbol in self._places and symbol != name:
                raise e.EquationError(
                    f"{symbol} is a name in this file, so it cannot also be the symbol of {name}",
                    self._declared_at[f"symbol {symbol}"],
                )
        return replace(
            self._page,
            inputs=self._inputs,
            states=self._states,
            parameters=self._parameters,
            initial=self._initial,
            settings=self._settings,
            meanings=self._meanings,
            symbols=self._symbols,
            lines=tuple(self._lines),
            outputs=tuple(self._outputs),
            places=self._places,
        )

    def _statement(self, content: str, number: int, comment: str) -> None:
        word = content.split(None, 1)[0]
        if word in self._words and not re.match(r"\s*\w+\s*(=|:\s*\S+\s*=)", content):
            at = content.index(word) + len(word)
            self._words[word](e.tokens_of(content[at:], self._file, number, at))
            if word == "setting":
                self._meanings[next(reversed(self._settings))] = comment
            return
        match = _LINE.fullmatch(content.rstrip())
        if match is None:
            span = e.SourceSpan(self._file, number, len(content) - len(content.lstrip()), len(content.rstrip()))
            hint = e.did_you_mean(word, self._words)
            raise e.EquationError(f"this is neither an equation, name = formula, nor a declaration: {hint}", span)
        self._equation(match, number, comment)

    def _equation(self, match: re.Match[str], number: int, comment: str) -> None:
        if len(self._lines) == MOST_LINES:
            raise e.EquationError(f"more than {MOST_LINES} equations in one file", e.SourceSpan(self._file, number, 0, 1))
        span = e.SourceSpan(self._file, number, match.start("target"), match.end("target"))
        token = e.tokens_of(match["target"], self._file, number, match.start("target"), self._name_of_symbol)
        if len(token) != 2 or token[0].kind != "name":
            raise e.EquationError(f"{match['target']!r} is not a name; an equation is written name = formula", span)
        target = self._name(token[0])
        op = match["op"].replace("−", "-")
        if target not in self._states and op == "=":
            self._declare(target, span)
        elif any(line.target == target for line in self._lines):
            raise e.EquationError(f"{target} is computed twice; a name can be computed by one line only", span)
        formula = e.Parser(
            e.tokens_of(match["formula"], self._file, number, match.start("formula"), self._name_of_symbol), self._name_of_symbol
        ).formula()
        for node in formula.walk():
            if node.label:
                self._declare(node.label, node.span or span)
        if isinstance(formula, e.Expression) and formula.label:
            raise e.EquationError(f"the whole line already has the name {target}, so it cannot be labelled {formula.label}", span)
        self._lines.append(Equation(target, formula, op, match["label"] or "", comment, span))

    def _name(self, token: e.Token) -> str:
        return e.name_of(token, self._name_of_symbol)

    def _declare(self, name: str, span: e.SourceSpan) -> None:
        if name in e.REDUCTIONS:
            raise e.EquationError(f"{name} is a word of formulas, as in {name} x over rows; choose another name", span)
        if name in self._places:
            raise e.EquationError(f"{name} is already used in line {self._places[name].line}; choose another name", span)
        self._places[name] = span

    # Declarations

    def _reads(self, tokens: list[e.Token]) -> None:
        if len(tokens) != 2 or tokens[0].kind != "name":
            raise e.EquationError("a piece reads one name: reads x", tokens[0].span)
        if "reads" in self._declared_at:
            raise e.EquationError("a piece reads one name, and this file already declares one", tokens[0].span)
        self._page, self._declared_at["reads"] = replace(self._page, reads=e.code_name(tokens[0].text)), tokens[0].span

    def _input(self, tokens: list[e.Token], target: bool = False) -> None:
        for name, axes, span in self._items(tokens, "an input is written x : I, or x : one-hot V"):
            one_hot = axes[:1] == ("one-hot",)
            axes = axes[1:] if one_hot else axes
            if len(axes) > 1 or (one_hot and not axes):
                raise e.EquationError(f"the input {name} has one axis: {name} : {'one-hot ' if one_hot else ''}V", span)
            self._declare(name, span)
            self._inputs[name] = Input(axes[0] if axes else "", one_hot, target)

    def _target(self, tokens: list[e.Token]) -> None:
        self._input(tokens, target=True)

    def _state(self, tokens: list[e.Token]) -> None:
        for name, axes, span in self._items(tokens, "a state is written h : H"):
            backwards = axes[-1:] == ("backwards",)
            axes = axes[:-1] if backwards else axes
            if len(axes) != 1:
                raise e.EquationError(f"the state {name} has one axis: {name} : H", span)
            self._declare(name, span)
            self._states[name] = CarriedState(axes[0], backwards)
            self._declare(e.with_word(name, "next" if backwards else "prev"), span)

    def _parameter_list(self, tokens: list[e.Token]) -> None:
        for name, axes, span in self._items(tokens, "parameters are written Wz bz E(V D)", self._initial):
            self._declare(name, span)
            self._parameters[name] = axes

    def _output(self, tokens: list[e.Token]) -> None:
        for name, axes, span in self._items(tokens, "an output is written by its name alone: output h"):
            if axes:
                raise e.EquationError(f"the axes of the output {name} follow from its line; write output {name}", span)
            self._outputs.append(name)
            self._declared_at[f"output {name}"] = span

    def _setting(self, tokens: list[e.Token]) -> None:
        texts = [token.text for token in tokens]
        if len(tokens) != 4 or tokens[0].kind != "name" or texts[1] != "=" or tokens[2].kind != "number":
            raise e.EquationError("a setting is written setting β = 0.9", tokens[0].span)
        name = self._name(tokens[0])
        self._declare(name, tokens[0].span)
        self._settings[name] = float(e.constant(tokens[2]))

    def _symbol(self, tokens: list[e.Token]) -> None:
        if len(tokens) < 3 or tokens[0].kind != "name":
            raise e.EquationError(
                r"a symbol is written symbol logits o, or with its LaTeX after it: symbol term1 ① \ell", tokens[0].span
            )
        name = e.code_name(tokens[0].text)
        behind = self._file.lines[tokens[0].span.line - 1].partition("#")[0][tokens[0].span.stop :].split(None, 1)
        self._symbols[name] = behind[0], behind[-1].strip()
        self._name_of_symbol[normalize("NFC", behind[0])] = name
        self._declared_at[f"symbol {behind[0]}"] = tokens[0].span

    def _items(
        self, tokens: list[e.Token], form: str, initial: dict[str, float] | None = None
    ) -> list[tuple[str, tuple[str, ...], e.SourceSpan]]:
        """Parse `x : one-hot V, h : H backwards` or `Wz E(V D) g = 1`. Returns each name, the words after it, and its place.

        The numbers after `=` are added to `initial`; without it there can be none.
        """
        items: list[tuple[str, tuple[str, ...], e.SourceSpan]] = []
        at = 0
        while tokens[at].kind != "end":
            token = tokens[at]
            if token.text == "," and items:
                at += 1
                continue
            if token.kind != "name":
                raise e.EquationError(f"{token.text!r} is not a name: {form}", token.span)
            at += 1
            axes: list[str] = []
            if tokens[at].text in (":", "("):
                closing = ")" if tokens[at].text == "(" else ","
                at += 1
                while tokens[at].text != closing and tokens[at].kind != "end":
                    axes.append(tokens[at].text)
                    at += 1
                if closing == ")" and tokens[at].kind == "end":
                    raise e.EquationError(f"a bracket is not closed: {form}", token.span)
                at += tokens[at].kind != "end"
            words = tuple(" ".join(axes).replace("one - hot", "one-hot").split())
            for word in words:
                if word not in ("one-hot", "backwards") and not word.isidentifier():
                    raise e.EquationError(f"{word!r} is not an axis: {form}", token.span)
                if e.AXES.get(word, word) in ("T", "B"):
                    raise e.EquationError(
                        f"timesteps and rows are not declared, every input and state has them: {form}", token.span
                    )
            items.append((self._name(token), tuple(e.AXES.get(word, word) for word in words), token.span))
            if initial is not None and tokens[at].text == "=":
                is_negative = tokens[at + 1].text in e.MINUS
                at += 1 + is_negative
                if tokens[at].kind != "number":
                    raise e.EquationError(
                        f"a number is expected, with which all entries of {token.text} begin, as in g = 1", tokens[at].span
                    )
                initial[items[-1][0]] = float(e.constant(tokens[at])) * (-1 if is_negative else 1)
                at += 1
        if not items:
            raise e.EquationError(f"a name is missing: {form}", tokens[at].span)
        return items


# ------------------------------------------------------------------------------
# Composition of a model from pieces: an input, layers of a cell in one or two directions, a head and a loss, each from its own
# page.
#
# An instance of a piece is its page with other names in the expression trees; a model is one page that joins all instances.


KEEP, SET = "keep", "set"  # the mask of states that are carried on, 0 where one is set; the word of the states that are set
SCRIPT = "script"  # the word of what a script reads of a state between two timesteps
LIVE = "live"  # the mask of row lengths: 1 inside a row, 0 after its end
# Names that no cell can have: the mask of units that are held at 0, and a word in the name of what is computed before it.
SILENT, OF_ALL_UNITS = "silent units", "of all units"


class Layer(NamedTuple):
    """One layer in one direction (0-based `number`): the suffix of its names, its input and output, its states and its lines."""

    number: int
    backwards: bool
    suffix: str
    reads: str
    output: str
    states: tuple[str, ...]
    lines: tuple[str, ...]

    @property
    def name(self) -> str:
        """The layer in words, `layer 2 ←`: counted from 1, with an arrow if it runs backwards."""
        return f"layer {self.number + 1}{' ←' if self.backwards else ''}"


class Composed(NamedTuple):
    """A page joined from pieces, and its layers in the order of its lines."""

    page: Page
    layers: tuple[Layer, ...]


def compose(
    source: Page,
    cell: Page,
    *,
    layers: int = 1,
    bidirectional: bool = False,
    backwards: bool = False,
    head: Page | None = None,
    loss: Page | None = None,
    lengths: bool = False,
    dropout: bool = False,
    resets: bool = False,
    inner: bool = False,
    script: bool = False,
    input_gradient: bool = False,
    user_files: Sequence[str] = (),
) -> Composed:
    """Return a complete model. Without a loss, the gradient of the last layer's output is given from outside.

    `user_files` has the names of the user's files: where two pieces clash, the error points into one of these.

    `backwards` makes a model of one direction read from the last timestep to the first. `lengths` adds a mask of row lengths,
    `dropout` a mask between each layer and the next, `resets` states that are set between two timesteps, `inner` gradients from
    outside of all states that are not the output, `script` those that come back through what a script computes of the states
    between two timesteps. `input_gradient` also derives the gradient of the first layer's input. Raises `EquationError` if a piece
    cannot be used or two pieces share a name.
    """
    _check_cell(cell)
    pieces = [instance(source)]
    reads = pieces[0].output
    if lengths:
        pieces.append(Page(inputs={LIVE: Input("")}, symbols={LIVE: (LIVE, rf"\mathit{{{LIVE}}}")}))
    if resets:
        pieces.append(Page(inputs={KEEP: Input("")}, symbols={KEEP: (KEEP, rf"\mathit{{{KEEP}}}")}))
    stack: list[Layer] = []
    directions = (False, True) if bidirectional else (backwards,)
    for number in range(layers):
        outputs = []
        for backwards in directions:
            suffix = f"_l{number}{'_reverse' if backwards else ''}" if layers > 1 or bidirectional else ""
            piece = instance(cell, reads, suffix, backwards=backwards)
            piece = _resettable(piece) if resets else piece
            piece = _read_by_script(piece) if script else piece
            pieces.append(_masked(piece) if lengths else piece)
            stack.append(_layer(pieces[-1], number, backwards, suffix, reads))
            outputs.append(piece.output)
        reads = outputs[0]
        if bidirectional:
            reads = f"out_l{number}"
            pieces.append(_out(reads, e.Join(tuple(map(e.Name, outputs))), "both directions joined along the units"))
        if dropout and number < layers - 1:
            pieces.append(_dropout(reads, "+".join("H" for _ in outputs), f"_l{number}"))
            reads = pieces[-1].output
    if lengths:
        pieces.append(_out("out", e.Times((e.Name(LIVE), e.Name(reads))), "0 after the end of a row"))
        reads = "out"
    ends: dict[str, tuple[str, ...]] = {}
    for behind, axes in ((head, ("T", "B", "V")), (loss, ())):
        if behind is not None:
            (_check_head if behind is head else _check_loss)(behind)
            pieces.append(instance(behind, reads))
            reads = pieces[-1].output
            ends[reads] = axes
    if loss is None:
        last = stack[-1].output
        others = [state for layer in stack for state in layer.states if inner and state != last]
        between = [e.with_word(state, SCRIPT) for layer in stack for state in layer.states if script]
        pieces.append(Page(outputs=(reads, *others, *between)))
    page = replace(joined_pages(pieces, cell.source, user_files), ends=ends)
    if not page.parameters:
        raise e.EquationError("there is nothing to learn; a model needs parameters", source=cell.source)
    if input_gradient:
        page = replace(page, differentiated=tuple(page.inputs)[:1])
    return Composed(page, tuple(stack))


def _layer(piece: Page, number: int, backwards: bool, suffix: str, reads: str) -> Layer:
    targets = tuple(line.target for line in piece.lines)
    return Layer(number, backwards, suffix, reads, piece.output, tuple(piece.states), targets)


def _out(name: str, formula: e.Expression, note: str) -> Page:
    """Return the page of one line that computes an output from layers."""
    return Page(lines=(Equation(name, formula, note=note),), symbols={"out": ("out", r"\mathit{out}")})


def _check_cell(cell: Page) -> None:
    """Raise `EquationError` for a page that cannot be used as a cell."""
    if not cell.states:
        raise e.EquationError(
            "a cell needs a state that is carried from one timestep to the next; declare one, state h : H", source=cell.source
        )
    if not cell.lines:
        raise e.EquationError("a cell needs at least one equation", source=cell.source)
    for kind, names, cure in (
        ("an input", cell.inputs, "a cell reads the output of the layer below: reads x"),
        ("a setting", cell.settings, "write the number itself"),
        ("an output", cell.outputs, "the last line of a cell is its output"),
    ):
        for name in names:
            raise e.EquationError(f"{name} is declared as {kind}, but a cell cannot declare one; {cure}", cell.places[name])
    for name, state in cell.states.items():
        if state.axis != "H":
            raise e.EquationError(f"a state of a cell has the axis H: state {name} : H", cell.places[name])


def _check_head(head: Page) -> None:
    """Raise `EquationError` for a page that cannot be used as a head."""
    _check_last_piece(head, "head", "the last line of a head is its output")
    for name in head.inputs:
        raise e.EquationError(
            f"{name} is declared as an input, but a head cannot declare one; it reads the output of the last layer: reads h",
            head.places[name],
        )


def _check_loss(loss: Page) -> None:
    """Raise `EquationError` for a page that cannot be used as a loss."""
    _check_last_piece(loss, "loss", "the last line of a loss is its output")
    targets = [name for name, declared in loss.inputs.items() if declared.target]
    if not targets:
        raise e.EquationError(
            "a loss needs a target to compare with; declare it, target y : one-hot V, or target y : V", source=loss.source
        )
    for name, declared in loss.inputs.items():
        if not declared.target:
            words = f"{name} is declared as an input, but a loss reads the output of the head: reads logits"
            raise e.EquationError(words, loss.places[name])
        if name != targets[0]:
            raise e.EquationError(f"a loss has one target, and {targets[0]} is already declared; remove {name}", loss.places[name])
        if declared.axis != "V":
            words = f"a target has the axis of the predictions: target {name} : V, or target {name} : one-hot V"
            raise e.EquationError(words, loss.places[name])
    if loss.output != "loss":
        raise e.EquationError(f"the last line of a loss is loss = …, not {loss.output} = …", loss.lines[-1].span)


def _check_last_piece(piece: Page, kind: str, output: str) -> None:
    """Raise `EquationError` for what neither a head nor a loss can have."""
    for declaration, names, cure in (
        ("a state", piece.states, "a state belongs into a cell"),
        ("a setting", piece.settings, "write the number itself"),
        ("an output", piece.outputs, output),
    ):
        for name in names:
            raise e.EquationError(
                f"{name} is declared as {declaration}, but a {kind} cannot declare one; {cure}", piece.places[name]
            )
    if not piece.lines:
        raise e.EquationError(f"a {kind} needs at least one equation", source=piece.source)


def instance(piece: Page, reads: str = "", suffix: str = "", *, backwards: bool = False) -> Page:
    """Return the piece with a suffix on its names, reading `reads`; with `backwards` it reads its states from the next timestep."""
    states = {name + suffix: CarriedState(state.axis, state.backwards != backwards) for name, state in piece.states.items()}
    new = Page(states=states)
    change = {piece.before(name): new.before(name + suffix) for name in piece.states}
    if reads:
        change[piece.reads] = reads

    def name(old: str) -> str:
        return change.get(old) or old + suffix

    if not suffix and not backwards and (not reads or reads == piece.reads):
        return piece
    return replace(
        piece,
        states=states,
        places={name(old): place for old, place in piece.places.items()},
        inputs={name(old): variable for old, variable in piece.inputs.items()},
        parameters={name(old): axes for old, axes in piece.parameters.items()},
        initial={name(old): number for old, number in piece.initial.items()},
        lines=tuple(replace(line, target=name(line.target), formula=renamed(line.formula, name)) for line in piece.lines),
        outputs=tuple(map(name, piece.outputs)),
    )


def renamed(node: e.Expression, name: Any) -> e.Expression:
    """Return the same tree with every name and label replaced by `name(old)`."""
    if isinstance(node, e.Name):
        return replace(node, name=name(node.name))
    if node.label:
        node = replace(node, label=name(node.label))
    return node.with_children(tuple(renamed(child, name) for child in node.children)) if node.children else node


def _masked(piece: Page) -> Page:
    """Return a layer whose states stay unchanged after the end of a row: `h = live ⊙ h_new + (1 − live) ⊙ h_prev`."""
    lines: list[Equation] = []
    live = e.Name(LIVE)
    for line in piece.lines:
        if line.target in piece.states:
            new = e.with_word(line.target, "new")
            lines.append(replace(line, target=new))
            unchanged = e.Times((e.Sum((e.ONE, e.Negative(live))), e.Name(piece.before(line.target))))
            formula = e.Sum((e.Times((live, e.Name(new))), unchanged))
            line = Equation(line.target, formula, label="held", note="the new state, or the old one after the end of a row")
        lines.append(line)
    return replace(piece, lines=tuple(lines))


def _resettable(piece: Page) -> Page:
    """Return a layer that reads a state as `h_in = keep ⊙ h_prev + h_set`: where keep is 0, the state is set, and no gradient flows
    back."""
    change = {piece.before(name): e.with_word(name, "in") for name in piece.states}
    lines = [
        Equation(
            e.with_word(name, "in"),
            e.Sum((e.Times((e.Name(KEEP), e.Name(piece.before(name)))), e.Name(e.with_word(name, SET)))),
            note="the state of the timestep before, or the one that was set",
        )
        for name in piece.states
    ]
    lines += [replace(line, formula=renamed(line.formula, lambda name: change.get(name, name))) for line in piece.lines]
    return replace(
        piece, inputs={**piece.inputs, **{e.with_word(name, SET): Input("H") for name in piece.states}}, lines=tuple(lines)
    )


def _read_by_script(piece: Page) -> Page:
    """Return a layer with a line for each state, `h_script = h_prev`: the gradient of this line is what comes back to the state
    through what the script computes of it."""
    lines = tuple(
        Equation(
            e.with_word(name, SCRIPT),
            e.Name(piece.before(name)),
            note="the state of the timestep before, of which the script computes the state that was set",
        )
        for name in piece.states
    )
    return replace(piece, lines=(*lines, *piece.lines))


def _dropout(reads: str, axis: str, suffix: str) -> Page:
    """Return the page that multiplies the input of the next layer by a dropout mask."""
    mask = f"mask{suffix}"
    note = "the value after dropout: 0, or the value / (1 − p)"
    line = Equation(f"dropped{suffix}", e.Times((e.Name(mask), e.Name(reads))), note=note)
    return Page(inputs={mask: Input(axis)}, lines=(line,))


def silenced(page: Page, name: str, axis: str) -> Page:
    """Return the page with an input `silent`, (B, axis), by which the result of the line `name` is multiplied: 0 holds a unit at 0.

    The line itself computes `of_all_units(name)`. Raises `EquationError` if no line computes the name.
    """
    if all(line.target != name for line in page.lines):
        raise e.EquationError(f"no line computes {name}, so its units cannot be held at 0")
    lines: list[Equation] = []
    for line in page.lines:
        if line.target == name:
            lines.append(replace(line, target=of_all_units(name)))
            masked = e.Times((e.Name(SILENT), e.Name(of_all_units(name))))
            line = Equation(name, masked, note="0 for units that are held at 0")
        lines.append(line)
    return replace(page, inputs={**page.inputs, SILENT: Input(axis)}, lines=tuple(lines))


def of_all_units(name: str) -> str:
    """Return the name, which no cell can have, of the result of a line before the mask of `silenced`."""
    return e.with_word(name, OF_ALL_UNITS)


def joined_pages(pieces: Sequence[Page], cell: str = "", user_files: Sequence[str] = ()) -> Page:
    """Return one page that joins several.

    Raises `EquationError` if two of them use the same name. The error points into the file `cell` if one of the two pages comes
    from it, but rather into one of the `user_files`.
    """
    owner: dict[str, Page] = {}
    for piece in pieces:
        names = {*piece.inputs, *piece.states, *piece.parameters, *(line.target for line in piece.lines)}
        names |= {node.label for line in piece.lines for node in line.formula.walk() if node.label}
        for name in sorted(names):
            if name in owner:
                other, blamed = sorted((piece, owner[name]), key=lambda page: (page.source in user_files, page.source == cell))
                message = f"{name} is also a name of {other.source or 'the model'}; choose another one here"
                raise e.EquationError(message, blamed.places.get(name), source=blamed.source)
            owner[name] = piece

    def merged(field: str) -> Mapping[str, Any]:
        return {name: value for piece in pieces for name, value in getattr(piece, field).items()}

    return Page(
        title=" · ".join(piece.title for piece in pieces if piece.title),
        source=cell,
        inputs=merged("inputs"),
        states=merged("states"),
        parameters=merged("parameters"),
        initial=merged("initial"),
        symbols=merged("symbols"),
        lines=tuple(line for piece in pieces for line in piece.lines),
        outputs=tuple(name for piece in pieces for name in piece.outputs),
        places=merged("places"),
    )


# ------------------------------------------------------------------------------
# The pieces of a model as files of equations: the kinds of pieces, the built-in ones, and those of the user.


FOLDER = Path(__file__).parent.parent / "models"


class PieceKind(NamedTuple):
    """A kind of piece. `folder` has the files of the built-in ones; `option` is the option of a run that names one of them or a
    user's file, which ends in a dot and the name of the kind; empty if other options imply the piece. `names` are those that the
    option takes if not every file of the folder is a piece of its own, and `accepts` says what the option takes."""

    folder: str
    option: str = ""
    accepts: str = ""
    names: tuple[str, ...] = ()


KINDS = {
    "cell": PieceKind("cells", "cell", "the name of a cell or of a .cell file"),
    "head": PieceKind("heads", "head", "the name of a head or of a .head file"),
    "loss": PieceKind("losses", "loss", "the name of a loss or of a .loss file"),
    "update": PieceKind(  # clip.update is a part of each of these
        "updates", "optimizer", "sgd, momentum, adam or the name of an .update file", ("sgd", "momentum", "adam")
    ),
    "input": PieceKind("inputs"),
}


def choices(kind: str) -> tuple[str, ...]:
    """Return the names of the built-in pieces of one kind that an option takes."""
    return KINDS[kind].names or names_of(kind)


def checked_piece(kind: str, options: Mapping[str, Any], default: str) -> dict[str, str]:
    """Return the option that names a piece and the option with its text, which is empty for a built-in piece; the file of a user
    is read if its text is not among the options. Raises a `TuiGruError` about the option."""
    row = KINDS[kind]
    name, text = options.get(row.option, default), options.get(f"{row.option}_text", "")
    name = os.fspath(name) if isinstance(name, os.PathLike) else name
    is_name = isinstance(name, str) and name != ""
    if is_name and name.endswith(f".{kind}") and not text:
        name, text = PurePath(name).name, read_file(name, row.option)
    if not is_name or not isinstance(text, str) or (row.names and not text and name not in row.names):
        raise TuiGruError(f"{row.option} must be {row.accepts}, not {errors.shown(name)}", option=row.option)
    if not name.isprintable():
        words = f"the name {errors.shown(name)} has characters that cannot be shown; rename the {row.option}"
        raise TuiGruError(words, option=row.option)
    return {row.option: name, f"{row.option}_text": text}


@lru_cache(maxsize=32)
def shipped(kind: str, name: str) -> Page:
    """Return the page of a built-in piece. Raises `TuiGruError` for an unknown name."""
    return read_page(text_of(kind, name), f"{name}.{kind}")


def text_of(kind: str, name: str) -> str:
    """Return the text of a built-in piece. Raises `TuiGruError` for an unknown name."""
    if not name or name not in names_of(kind):
        raise TuiGruError(f"there is no {kind} {name!r}; {e.did_you_mean(name, names_of(kind))}", option=KINDS[kind].option or kind)
    return (FOLDER / KINDS[kind].folder / f"{name}.{kind}").read_text(encoding="utf-8")


def names_of(kind: str) -> tuple[str, ...]:
    """Return the names of the built-in pieces of one kind, sorted."""
    ending = f".{kind}"
    return tuple(sorted(file.removesuffix(ending) for file in os.listdir(FOLDER / KINDS[kind].folder) if file.endswith(ending)))


@lru_cache(maxsize=1)
def symbols() -> dict[str, str]:
    """Return the symbols that the built-in pieces declare, with the names they stand for: ① → term1."""
    pages = (shipped(kind, name) for kind in KINDS for name in names_of(kind))
    return {text: name for page in pages for name, (text, _) in page.symbols.items()}


def read_file(path: str | Path, option: str) -> str:
    """Return the text of an equation file. Raises `TuiGruError` if it cannot be read."""
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
    except OSError as error:
        raise TuiGruError(f"{path}: {error.strerror or error}; check the name", option=option) from None
    except UnicodeDecodeError:
        raise TuiGruError(f"{path}: not a text file in UTF-8", option=option) from None
    except ValueError as error:  # a null byte in the name
        raise TuiGruError(f"{path}: {error}; check the name", option=option) from None
    if not text:
        raise TuiGruError(f"{path}: it is empty; write equations in it", option=option)
    if len(text) > LONGEST:
        raise TuiGruError(f"{path}: an equation file has at most {LONGEST:,} characters", option=option)
    return text
