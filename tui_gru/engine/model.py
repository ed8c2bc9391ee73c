"""The equations of a model, without sizes, read from the files in `models` or from a file of the user."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

from tui_gru.engine.compiling.update import WEIGHT, UpdateRule
from tui_gru.engine.errors import TuiGruError
from tui_gru.equations.axes import Axes, infer_axes
from tui_gru.equations.backward import Backward, derive
from tui_gru.equations.compose import Composed, compose
from tui_gru.equations.errors import EquationError, did_you_mean
from tui_gru.equations.names import Symbols
from tui_gru.equations.page import LONGEST, Page, read_page
from tui_gru.equations.writing import Writer

FOLDER = Path(__file__).parent.parent / "models"
KINDS = {"cell": "cells", "head": "heads", "loss": "losses", "update": "updates", "input": "inputs"}


@dataclass(frozen=True)
class Structure:
    """The pieces of a model. `cell` is the name of a built-in cell, or of a user's file with the text `cell_text`; `update` and
    `update_text` are the same for the update rule.

    `input` is one-hot, embedding or dense. `loss` is empty if the gradients of the output and of the last states are given from
    outside. `lengths` and `dropout` add masks as inputs: for rows of different lengths, and between each layer and the next.
    `input_gradient` also derives the gradient of the input.
    """

    cell: str = "gru"
    cell_text: str = ""
    layers: int = 1
    bidirectional: bool = False
    backwards: bool = False  # a model of one direction that reads the timesteps in reverse
    input: str = "one-hot"
    head: str = "linear"
    loss: str = "cross-entropy"
    update: str = "sgd"
    update_text: str = ""
    clip: bool = False
    lengths: bool = False
    dropout: bool = False
    input_gradient: bool = False


class Model:
    """The equations of a complete model: forward lines, derived backward lines, update rule, and the axes of every name. `title` is
    the title of the cell."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        cell = _page("cell", structure.cell, structure.cell_text)
        self.title = cell.title or f"the cell {structure.cell}"
        self.composed: Composed = compose(
            shipped("input", structure.input),
            cell,
            layers=structure.layers,
            bidirectional=structure.bidirectional,
            backwards=structure.backwards,
            head=shipped("head", structure.head) if structure.head else None,
            loss=shipped("loss", structure.loss) if structure.loss else None,
            lengths=structure.lengths,
            dropout=structure.dropout,
            input_gradient=structure.input_gradient,
        )
        self.page: Page = self.composed.page
        self.axes: dict[str, Axes] = infer_axes(self.page)
        clipping = [shipped("update", "clip")] if structure.clip else []
        self.rule = UpdateRule([*clipping, _page("update", structure.update, structure.update_text)])
        self._check_names()
        self.writer = Writer(Symbols({**self.page.symbols, **self.rule.symbols, **self._update_symbols()}))

    def _check_names(self) -> None:
        """Raise `EquationError` for a name that both the equations and the update rule define."""
        own = {line.target for line in self.rule.lines_of(self.parameters)} - set(self.parameters)
        for name in (*self.rule.settings, *own):
            if name in self.axes and self.structure.update_text:
                message = f"{name} is also a name of the model; choose another one here"
                raise EquationError(message, self.rule.places.get(name), source=self.structure.update)
            if name in self.axes:
                message = f"{name} is also a name of the update rule {self.structure.update}; choose another one here"
                raise EquationError(message, self.page.places.get(name))

    def _update_symbols(self) -> dict[str, tuple[str, str]]:
        """Return the symbols of the update rule's vectors for each parameter: m̂_Wz for m_hat_Wz."""
        own, found = Symbols({**self.page.symbols, **self.rule.symbols}), dict[str, tuple[str, str]]()
        for target in (line.target for line in self.rule.lines if self.rule.is_vector(line.target) and line.target != WEIGHT):
            for name in self.parameters:
                written = f"{own.text(target)}_{own.text(name)}", rf"{{{own.latex(target)}}}_{{{own.latex(name)}}}"
                found[self.rule.name_for(target, name)] = written
        return found

    @cached_property
    def backward(self) -> Backward:
        """The derived backward pass."""
        return derive(self.page, self.axes)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of all parameters, in the order of the equations."""
        return tuple(self.page.parameters)


@lru_cache(maxsize=32)
def model_of(structure: Structure) -> Model:
    """Return the model of a structure; cached. Raises `TuiGruError` for an error in an equation file."""
    try:
        model = Model(structure)
        _ = model.backward
    except EquationError as error:
        if structure.layers > 1 or structure.bidirectional:
            # The same error in the names of the file: in one layer and direction they have no suffix.
            model_of(replace(structure, layers=1, bidirectional=False))
        of_rule = structure.update_text and str(error).startswith(f"{structure.update}:")
        raise TuiGruError(str(error), option="optimizer" if of_rule else "cell") from error
    return model


def _page(kind: str, name: str, text: str) -> Page:
    """Return the page of a user's file with this text, or of a built-in piece if there is no text."""
    return read_page(text, name) if text else shipped(kind, name)


@lru_cache(maxsize=32)
def shipped(kind: str, name: str) -> Page:
    """Return the page of a built-in piece. Raises `TuiGruError` for an unknown name."""
    return read_page(text_of(kind, name), f"{name}.{kind}")


def text_of(kind: str, name: str) -> str:
    """Return the text of a built-in piece. Raises `TuiGruError` for an unknown name."""
    if not name or name not in names_of(kind):
        raise TuiGruError(f"there is no {kind} {name!r}; {did_you_mean(name, names_of(kind))}", option=kind)
    return (FOLDER / KINDS[kind] / f"{name}.{kind}").read_text(encoding="utf-8")


def names_of(kind: str) -> tuple[str, ...]:
    """Return the names of the built-in pieces of one kind, sorted."""
    ending = f".{kind}"
    return tuple(sorted(file.removesuffix(ending) for file in os.listdir(FOLDER / KINDS[kind]) if file.endswith(ending)))


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
