"""A page of equations, which is the content of an equation file, and its reader."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from unicodedata import normalize

from tui_gru.equations.errors import EquationError, File, SourceSpan, did_you_mean
from tui_gru.equations.expression import Expression
from tui_gru.equations.names import AXES, code_name, with_word
from tui_gru.equations.parser import REDUCTIONS, Parser, Token, constant, name_of, tokens_of

LONGEST = 200_000  # characters in a file
MOST_LINES = 500  # formulas in a file


@dataclass(frozen=True)
class Input:
    """An input of every timestep, (B, axis), or (B) without an axis. A `target` is the value to predict."""

    axis: str
    one_hot: bool = False
    target: bool = False


@dataclass(frozen=True)
class CarriedState:
    """A value carried to the next timestep, (B, axis); with `backwards`, carried to the previous timestep."""

    axis: str
    backwards: bool = False


@dataclass(frozen=True)
class Equation:
    """A line of the form `target op formula`. `label` names the gradient's path through the line; `note` explains the line in a
    sentence."""

    target: str
    formula: Expression
    op: str = "="
    label: str = ""
    note: str = ""
    span: SourceSpan | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Page:
    """The content of one file, or of several joined.

    `parameters` has the declared axes of each parameter, () if they are to be inferred. `reads` is the name that a piece reads from
    the piece before it. `outputs` are values whose gradients are given from outside; a page without outputs ends with its loss.
    `wanted` are inputs whose gradients are derived too. `symbols` maps a name to its on-screen and LaTeX spelling, `settings` the
    constants of an update rule to their defaults, `meanings` those
    to the comments behind them, `places` a name to the place where it is declared or computed. `source` is the
    name of the file, empty for a page that does not come from one.
    """

    title: str = ""
    source: str = ""
    reads: str = "x"
    inputs: Mapping[str, Input] = field(default_factory=dict)
    states: Mapping[str, CarriedState] = field(default_factory=dict)
    parameters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lines: tuple[Equation, ...] = ()
    outputs: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()
    symbols: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    settings: Mapping[str, float] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, SourceSpan] = field(default_factory=dict, compare=False, repr=False)

    @property
    def output(self) -> str:
        """The name of the output: the target of the last line, or the input if the piece has no lines."""
        return self.lines[-1].target if self.lines else next(iter(self.inputs))

    def before(self, state: str) -> str:
        """Return the name of a state as a timestep reads it: h_prev, or h_next if the state runs backwards."""
        return with_word(state, "next" if self.states[state].backwards else "prev")

    def ahead(self, state: str) -> str:
        """Return the name of the gradient that a state receives from the timestep that reads it: dh_future, or dh_past."""
        return with_word(f"d{state}", "past" if self.states[state].backwards else "future")


def read_page(text: str, source: str) -> Page:
    """Read a page from the text of a file. `source` is its name in messages. Raises `EquationError` with line and column."""
    if len(text) > LONGEST:
        raise EquationError(f"the file has {len(text):,} characters; an equation file has at most {LONGEST:,}", source=source)
    lines = re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff"))
    return _Reader(File(source, tuple(lines))).page()


_LINE = re.compile(r"\s*+(?:(?P<label>[^\W\d]\w*)\s*:(?!=))?\s*(?P<target>[^\s=:−+-]+)\s*(?P<op>−=|-=|\+=|=)(?P<formula>.*)")


class _Reader:
    """Reads one file, line by line."""

    def __init__(self, file: File) -> None:
        self._file, self._page = file, Page(source=file.name)
        self._inputs: dict[str, Input] = {}
        self._states: dict[str, CarriedState] = {}
        self._parameters: dict[str, tuple[str, ...]] = {}
        self._settings: dict[str, float] = {}
        self._meanings: dict[str, str] = {}
        self._symbols: dict[str, tuple[str, str]] = {}
        self._behind: dict[str, str] = {}  # symbol -> the name it stands for
        self._lines: list[Equation] = []
        self._outputs: list[str] = []
        self._places: dict[str, SourceSpan] = {}  # the place where each name is declared or computed
        self._said: dict[str, SourceSpan] = {}  # the places of other declarations: reads, output h, symbol o
        self._words: dict[str, Callable[[list[Token]], None]] = {
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
        known = {*self._inputs, *self._parameters, *self._settings, *(line.target for line in self._lines)}
        for name in self._outputs:
            if name not in known:
                raise EquationError(f"no line computes {name}; {did_you_mean(name, known)}", self._said[f"output {name}"])
        for symbol, name in self._behind.items():
            if symbol in self._places and symbol != name:
                raise EquationError(
                    f"{symbol} is a name in this file, so it cannot also be the symbol of {name}", self._said[f"symbol {symbol}"]
                )
        return replace(
            self._page,
            inputs=self._inputs,
            states=self._states,
            parameters=self._parameters,
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
            self._words[word](tokens_of(content[at:], self._file, number, at))
            if word == "setting":
                self._meanings[next(reversed(self._settings))] = comment
            return
        match = _LINE.fullmatch(content.rstrip())
        if match is None:
            span = SourceSpan(self._file, number, len(content) - len(content.lstrip()), len(content.rstrip()))
            hint = did_you_mean(word, self._words)
            raise EquationError(f"this is neither an equation, name = formula, nor a declaration: {hint}", span)
        self._equation(match, number, comment)

    def _equation(self, match: re.Match[str], number: int, comment: str) -> None:
        if len(self._lines) == MOST_LINES:
            raise EquationError(f"more than {MOST_LINES} equations in one file", SourceSpan(self._file, number, 0, 1))
        span = SourceSpan(self._file, number, match.start("target"), match.end("target"))
        token = tokens_of(match["target"], self._file, number, match.start("target"), self._behind)
        if len(token) != 2 or token[0].kind != "name":
            raise EquationError(f"{match['target']!r} is not a name; an equation is written name = formula", span)
        target = self._name(token[0])
        op = match["op"].replace("−", "-")
        if target not in self._states and op == "=":
            self._declare(target, span)
        elif any(line.target == target for line in self._lines):
            raise EquationError(f"{target} is computed twice; a name can be computed by one line only", span)
        formula = Parser(
            tokens_of(match["formula"], self._file, number, match.start("formula"), self._behind), self._behind
        ).formula()
        for node in formula.walk():
            if node.label:
                self._declare(node.label, node.span or span)
        if isinstance(formula, Expression) and formula.label:
            raise EquationError(f"the whole line already has the name {target}, so it cannot be labelled {formula.label}", span)
        self._lines.append(Equation(target, formula, op, match["label"] or "", comment, span))

    def _name(self, token: Token) -> str:
        return name_of(token, self._behind)

    def _declare(self, name: str, span: SourceSpan) -> None:
        if name in REDUCTIONS:
            raise EquationError(f"{name} is a word of formulas, as in {name} x over rows; choose another name", span)
        if name in self._places:
            raise EquationError(f"{name} is already used in line {self._places[name].line}; choose another name", span)
        self._places[name] = span

    # Declarations

    def _reads(self, tokens: list[Token]) -> None:
        if len(tokens) != 2 or tokens[0].kind != "name":
            raise EquationError("a piece reads one name: reads x", tokens[0].span)
        if "reads" in self._said:
            raise EquationError("a piece reads one name, and this file already declares one", tokens[0].span)
        self._page, self._said["reads"] = replace(self._page, reads=code_name(tokens[0].text)), tokens[0].span

    def _input(self, tokens: list[Token], target: bool = False) -> None:
        for name, axes, span in self._items(tokens, "an input is written x : I, or x : one-hot V"):
            one_hot = axes[:1] == ("one-hot",)
            axes = axes[1:] if one_hot else axes
            if len(axes) > 1 or (one_hot and not axes):
                raise EquationError(f"the input {name} has one axis: {name} : {'one-hot ' if one_hot else ''}V", span)
            self._declare(name, span)
            self._inputs[name] = Input(axes[0] if axes else "", one_hot, target)

    def _target(self, tokens: list[Token]) -> None:
        self._input(tokens, target=True)

    def _state(self, tokens: list[Token]) -> None:
        for name, axes, span in self._items(tokens, "a state is written h : H"):
            backwards = axes[-1:] == ("backwards",)
            axes = axes[:-1] if backwards else axes
            if len(axes) != 1:
                raise EquationError(f"the state {name} has one axis: {name} : H", span)
            self._declare(name, span)
            self._states[name] = CarriedState(axes[0], backwards)
            self._declare(with_word(name, "next" if backwards else "prev"), span)

    def _parameter_list(self, tokens: list[Token]) -> None:
        for name, axes, span in self._items(tokens, "parameters are written Wz bz E(V D)"):
            self._declare(name, span)
            self._parameters[name] = axes

    def _output(self, tokens: list[Token]) -> None:
        for name, axes, span in self._items(tokens, "an output is written by its name alone: output h"):
            if axes:
                raise EquationError(f"the axes of the output {name} follow from its line; write output {name}", span)
            self._outputs.append(name)
            self._said[f"output {name}"] = span

    def _setting(self, tokens: list[Token]) -> None:
        texts = [token.text for token in tokens]
        if len(tokens) != 4 or tokens[0].kind != "name" or texts[1] != "=" or tokens[2].kind != "number":
            raise EquationError("a setting is written setting β = 0.9", tokens[0].span)
        name = self._name(tokens[0])
        self._declare(name, tokens[0].span)
        self._settings[name] = float(constant(tokens[2]))

    def _symbol(self, tokens: list[Token]) -> None:
        if len(tokens) < 3 or tokens[0].kind != "name":
            raise EquationError(
                r"a symbol is written symbol logits o, or with its LaTeX after it: symbol term1 ① \ell", tokens[0].span
            )
        name = code_name(tokens[0].text)
        behind = self._file.lines[tokens[0].span.line - 1].partition("#")[0][tokens[0].span.stop :].split(None, 1)
        self._symbols[name] = behind[0], behind[-1].strip()
        self._behind[normalize("NFC", behind[0])] = name
        self._said[f"symbol {behind[0]}"] = tokens[0].span

    def _items(self, tokens: list[Token], form: str) -> list[tuple[str, tuple[str, ...], SourceSpan]]:
        """Parse `x : one-hot V, h : H backwards` or `Wz E(V D)`. Returns each name, the words after it, and its place."""
        found: list[tuple[str, tuple[str, ...], SourceSpan]] = []
        at = 0
        while tokens[at].kind != "end":
            token = tokens[at]
            if token.text == "," and found:
                at += 1
                continue
            if token.kind != "name":
                raise EquationError(f"{token.text!r} is not a name: {form}", token.span)
            at += 1
            axes: list[str] = []
            if tokens[at].text in (":", "("):
                closing = ")" if tokens[at].text == "(" else ","
                at += 1
                while tokens[at].text != closing and tokens[at].kind != "end":
                    axes.append(tokens[at].text)
                    at += 1
                if closing == ")" and tokens[at].kind == "end":
                    raise EquationError(f"a bracket is not closed: {form}", token.span)
                at += tokens[at].kind != "end"
            words = tuple(" ".join(axes).replace("one - hot", "one-hot").split())
            for word in words:
                if word not in ("one-hot", "backwards") and not word.isidentifier():
                    raise EquationError(f"{word!r} is not an axis: {form}", token.span)
                if AXES.get(word, word) in ("T", "B"):
                    raise EquationError(f"timesteps and rows are not declared, every input and state has them: {form}", token.span)
            found.append((self._name(token), tuple(AXES.get(word, word) for word in words), token.span))
        if not found:
            raise EquationError(f"a name is missing: {form}", tokens[at].span)
        return found
