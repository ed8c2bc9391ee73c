"""The program being debugged: every line of the training loop, once, in a table.

The listing, stepping, breakpoints, the written-out matrices and the explanations all come from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from tui_gru.debugger.formula import Formula, Name, Number, Reduce, log, screen_name, sigmoid, softmax, tanh
from tui_gru.engine.config import Config
from tui_gru.engine.parameters import parameter_names

#: The four ways from dh of a timestep to dh of the one before: z keeps the state; through the candidate; through z; through r.
PATHS = ("dh_carry", "dh_candidate", "dh_update", "dh_reset")
PHASES = ("forward", "loss", "backward", "update")


@dataclass(frozen=True)
class Line:
    """One line: it computes `target` (with `op` =, +=, or -=) from `formula`. Carry `notebook` has one without a formula."""

    target: str
    formula: Formula | None
    phase: str
    op: str = "="
    note: str = ""

    @cached_property
    def text(self) -> str:
        if self.formula is None:
            return self.note
        op = {"=": "=", "+=": "+=", "-=": "−="}[self.op]
        return f"{screen_name(self.target)} {op} {self.formula.text}"

    @cached_property
    def latex(self) -> str:
        if self.formula is None:
            return rf"\text{{{self.note}}}"
        target = Name(self.target).latex
        op = {"=": "=", "+=": r"\mathrel{+}=", "-=": r"\mathrel{-}="}[self.op]
        return f"{target} {op} {self.formula.latex}"

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The names on its right-hand side, each once, from left to right."""
        return tuple(dict.fromkeys(self.formula.names())) if self.formula is not None else ()


class Row(NamedTuple):
    """A row of the listing: a line, or the heading of a loop over `counter` (epoch, batch or t). `indent` counts levels."""

    text: str
    indent: int
    line: Line | None = None
    counter: str = ""


def _names(*names: str) -> tuple[Formula, ...]:
    return tuple(Name(name) for name in names)


_ONE = Number("1")


def _forward(reset: str) -> tuple[Line, ...]:
    x, y, h_prev, h, z, r, h_tilde, o, y_hat = _names("x", "y", "h_prev", "h", "z", "r", "h_tilde", "logits", "y_hat")
    Wz, Wr, Wh, Uz, Ur, Uh, Wy = _names("Wz", "Wr", "Wh", "Uz", "Ur", "Uh", "Wy")
    bz, br, bh, by, bhz, bhr, bhn = _names("bz", "br", "bh", "by", "bhz", "bhr", "bhn")
    az, ar = x @ Wz + h_prev @ Uz + bz, x @ Wr + h_prev @ Ur + br
    if reset == "after":
        az, ar = az + bhz, ar + bhr
        ah = x @ Wh + bh + r * (h_prev @ Uh + bhn)
    else:
        ah = x @ Wh + (r * h_prev) @ Uh + bh
    lines = {
        "z": sigmoid(az),
        "r": sigmoid(ar),
        "h_tilde": tanh(ah),
        "h": z * h_prev + (_ONE - z) * h_tilde,
        "logits": h @ Wy + by,
        "y_hat": softmax(o),
        "term1": y * log(y_hat),
        "term2": Reduce("sum", Name("term1"), "the vocabulary"),
        "term3": Reduce("mean", Name("term2"), "the rows", sign=-1),
    }
    return tuple(Line(target, formula, "forward") for target, formula in lines.items())


def _backward(reset: str) -> tuple[Line, ...]:
    y, y_hat, h, h_prev, z, r, h_tilde, x = _names("y", "y_hat", "h", "h_prev", "z", "r", "h_tilde", "x")
    Wy, Uz, Ur, Uh, bhn = _names("Wy", "Uz", "Ur", "Uh", "bhn")
    do, dh, dh_future, dz, dr, dh_tilde, daz, dar, dah, drh, dm = _names(
        "dlogits", "dh", "dh_future", "dz", "dr", "dh_tilde", "daz", "dar", "dah", "drh", "dm"
    )
    if reset == "after":
        product = ("dm", dah * r)
        dr_formula, candidate = dah * (h_prev @ Uh + bhn), dm @ Uh.T
    else:
        product = ("drh", dah @ Uh.T)
        dr_formula, candidate = drh * h_prev, drh * r
    deltas: list[tuple[str, Formula]] = [
        ("dlogits", (y_hat - y) / Number("(B·T)")),
        ("dh", do @ Wy.T + dh_future),
        ("dz", dh * (h_prev - h_tilde)),
        ("daz", dz * z * (_ONE - z)),
        ("dh_tilde", dh * (_ONE - z)),
        ("dah", dh_tilde * (_ONE - h_tilde * h_tilde)),
        product,
        ("dr", dr_formula),
        ("dar", dr * r * (_ONE - r)),
        ("dh_prev", dh * z + candidate + daz @ Uz.T + dar @ Ur.T),
    ]
    lines = [Line(target, formula, "backward") for target, formula in deltas]
    sources = {"z": (daz, h_prev, daz), "r": (dar, h_prev, dar), "h": (dah, r * h_prev, dah)}
    if reset == "after":
        sources["h"] = (dah, h_prev, dm)
    for name in parameter_names(reset):
        if name == "Wy":
            formula: Formula = h.T @ do
        elif name == "by":
            formula = Reduce("sum", do, "the rows")
        elif len(name) == 3:
            formula = Reduce("sum", {"z": daz, "r": dar, "n": dm}[name[2]], "the rows")
        else:
            da, state, recurrent = sources[name[1]]
            formula = {"W": x.T @ da, "U": state.T @ recurrent, "b": Reduce("sum", da, "the rows")}[name[0]]
        lines.append(Line(f"d{name}", formula, "backward", "+="))
    return tuple(lines)


class Program:
    """The table for one config, and the arithmetic of its ticks.

    A batch takes `ticks` ticks whether it learns or not: `forward` lines for every t, the loss, `backward` lines for every t
    from the last to the first, and the `update`. Tick k of a batch (1-based) has executed its k-th line.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.num_batches, self.seq_length = config.num_batches, config.seq_length
        self.forward = _forward(config.reset)
        self.loss = Line("loss", Reduce("mean", Name("term3"), "the timesteps"), "loss")
        self.backward = _backward(config.reset)
        self.deltas = sum(line.op == "=" for line in self.backward)
        earlier = Line("earlier", None, "backward", note="on into the batches before, back to the epoch's first")
        self.earlier = (earlier,) if config.carry == "notebook" else ()
        eta = Name("learning_rate")
        self.update = tuple(Line(n, eta * Name(f"d{n}"), "update", "-=") for n in parameter_names(config.reset))
        self.loss_tick = self.seq_length * len(self.forward) + 1
        self.backward_end = self.loss_tick + self.seq_length * len(self.backward) + len(self.earlier)
        self.ticks = self.backward_end + len(self.update)

    @cached_property
    def lines(self) -> Mapping[str, Line]:
        """Every line that has a formula, by what it computes. An update's line has the name of its parameter."""
        every = (*self.forward, self.loss, *self.backward, *self.update)
        return {line.target: line for line in every}

    @cached_property
    def parts(self) -> Mapping[Formula, str]:
        """The parts of lines that are recorded under a name of their own: (1 − z), r⊙h_prev, pre-activations, paths, products."""
        formula = {name: line.formula for name, line in self.lines.items() if line.formula is not None}
        (az, ar, ah), (_, new) = (formula[name].children[0] for name in ("z", "r", "h_tilde")), formula["h"].terms
        parts = {az: "az", ar: "ar", ah: "ah", new: "new", new.children[0]: "one_minus_z", formula["term1"].children[1]: "log_p"}
        if self.config.reset == "after":
            rh = ah.terms[-1]
            parts |= {rh: "rh", rh.children[1]: "hUh"}
        else:
            hUz, hUr, hUh = (a.terms[1] for a in (az, ar, ah))
            parts |= {hUz: "hUz", hUr: "hUr", hUh: "hUh", hUh.children[0]: "rh"}
        parts[formula["dh"].terms[0]] = "dh_output"
        return parts | dict(zip(formula["dh_prev"].terms, PATHS, strict=True))

    @cached_property
    def factors(self) -> Mapping[Formula, str]:
        """Those parts that stand in a product in parentheses, such as r⊙h_prev before Uh: a line can be written with them whole."""
        nodes = [node for line in self.lines.values() if line.formula is not None for node in line.formula.walk()]
        factors = {factor for node in nodes for factor in node.fenced}
        return {part: name for part, name in self.parts.items() if part in factors}

    @cached_property
    def written_with(self) -> Mapping[str, str]:
        """The line that writes a name which has no line of its own: the first in which that part stands."""
        inside = {line.target: frozenset(line.formula.walk()) for line in self.lines.values() if line.formula is not None}
        parts = {name: next(line for line, nodes in inside.items() if part in nodes) for part, name in self.parts.items()}
        return {"dh_future": "dlogits"} | parts

    def made_by(self, name: str) -> tuple[Formula, str]:
        """The formula that computes a name, of a line or of a part of one, and how it is written."""
        if (line := self.lines.get(name)) is not None and line.formula is not None:
            return line.formula, line.text
        formula = next(part for part, of in self.parts.items() if of == name)
        return formula, f"{screen_name(name)} = {formula.text}"

    def line_at(self, k: int) -> tuple[Line, int]:
        """The line that tick k of a batch executes, 1 ≤ k ≤ ticks, and its timestep (the last one outside the loops over t)."""
        last = self.seq_length - 1
        if k < self.loss_tick:
            t, index = divmod(k - 1, len(self.forward))
            return self.forward[index], t
        if k == self.loss_tick:
            return self.loss, last
        k -= self.loss_tick + 1
        if k < self.seq_length * len(self.backward):
            back, index = divmod(k, len(self.backward))
            return self.backward[index], last - back
        k -= self.seq_length * len(self.backward)
        return (*self.earlier, *self.update)[k], last

    def tick_of(self, name: str, t: int | None = None) -> int | None:
        """The tick within a batch at which `name` is computed, for timestep t where the line is in a loop over t.

        A part of a line is computed with the line. None for what no line computes.
        """
        where = self._index.get(self.written_with.get(name, name))
        if where is None:
            return None
        phase, index = where
        last = self.seq_length - 1
        t = last if t is None else t
        if phase == "forward":
            return t * len(self.forward) + index + 1
        if phase == "loss":
            return self.loss_tick
        if phase == "backward":
            return self.loss_tick + (last - t) * len(self.backward) + index + 1
        return self.backward_end - len(self.earlier) + index + 1

    def last_loss(self, tick: int) -> int:
        """The newest batch whose loss has been computed by a tick; −1 if none."""
        number, k = divmod(tick - 1, self.ticks)
        return number if k + 1 >= self.loss_tick else number - 1

    @cached_property
    def _index(self) -> dict[str, tuple[str, int]]:
        after = (*self.earlier, *self.update)
        tables = (("forward", self.forward), ("loss", (self.loss,)), ("backward", self.backward), ("update", after))
        return {line.target: (phase, i) for phase, lines in tables for i, line in enumerate(lines)}

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The listing, from top to bottom."""
        T, reset = self.seq_length, self.config.carry == "reset"
        zero = Row("h = 0", 2 if reset else 1)
        rows = [Row("for epoch in 1, 2, …:", 0, counter="epoch")]
        if not reset:
            rows.append(zero)
        rows.append(Row(f"for batch in 1…{self.num_batches}:", 1, counter="batch"))
        if reset:
            rows.append(zero)
        rows.append(Row(f"for t in 1…{T}:", 2, counter="t"))
        rows += [Row(line.text, 3, line) for line in self.forward]
        rows.append(Row(self.loss.text, 2, self.loss))
        rows.append(Row(f"for t in {T}…1:", 2, counter="t"))
        rows += [Row(line.text, 3, line) for line in self.backward]
        rows += [Row(line.text, 2, line) for line in (*self.earlier, *self.update)]
        return tuple(rows)


@lru_cache(maxsize=8)
def program_of(config: Config) -> Program:
    """The table of a config; made once."""
    return Program(config)
