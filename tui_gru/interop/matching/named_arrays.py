"""Detection of GRUs among named arrays, by the names of torch, flax, equinox, MLX, Haiku and Keras."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from tui_gru.interop.errors import printable
from tui_gru.interop.found import Convention, Findings, FoundGRU
from tui_gru.interop.matching.cells import CellArrays, NotAGRUError, apart_cell, stack, stacked_cell
from tui_gru.interop.matching.families import APART, STACKED, SeparateGates, Stacked
from tui_gru.interop.matching.guessing import biases_of, guessed
from tui_gru.interop.matching.weight_norm import composed, otherwise_parametrized
from tui_gru.interop.tensors import Tensor, Tensors

#: A name can have a prefix, which is as short as possible, so that recurrent_kernel is not read as a prefix of kernel. The
#: separator of a library may have been replaced by another one.
PREFIX = r"(?s)(?:(?P<prefix>.*?)[./_])??"
LAYER = r"_l(?P<layer>\d{1,3})(?P<reverse>_reverse)?"


@dataclass
class Group:
    """The arrays of one GRU: for each layer and direction, the names of the arrays by role."""

    family: Stacked | SeparateGates
    prefix: str
    cells: dict[tuple[int, bool], dict[str, str]] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        return {name for cell in self.cells.values() for name in cell.values()}


def find_by_name(tensors: Tensors, format_name: str, path: Path, order: str | None) -> Findings:
    """Find every GRU in `tensors`. If the names match no library, the shapes are tried; a GRU is then found only if `order` is
    given."""
    normed = composed(tensors)
    tensors = {**tensors, **normed}
    claimed: set[str] = set()
    found, refused = [], []
    for family in (*STACKED, *APART):
        for group in _groups(family, tensors, claimed):
            other_names, unread = _add_biases(group, {name: tensor for name, tensor in tensors.items() if name not in claimed})
            claimed |= group.names
            name = printable(group.prefix) or "gru"
            try:
                gru = _named_gru(group, tensors, name)
                if not other_names:
                    _check_pairs(group)
            except NotAGRUError as error:
                refused.append(f"{name}: {error}")
                continue
            composed_here = "; weight_norm is composed" if group.names & set(normed) else ""
            evidence, warning = gru.evidence + other_names + composed_here, "; ".join(filter(None, (unread, gru.warning)))
            found.append(replace(gru, format=format_name, path=path, evidence=evidence, warning=warning))
    refused.extend(
        f"{printable(weight)} has a parametrization other than weight_norm: save it after "
        f"torch.nn.utils.parametrize.remove_parametrizations"
        for weight in otherwise_parametrized(tensors)
        if weight not in tensors and re.search(r"(?:weight|bias)_[ih]h", weight)
    )
    if not found and not refused:
        more = guessed({name: tensor for name, tensor in tensors.items() if name not in claimed}, order)
        found, refused = [replace(gru, format=format_name, path=path) for gru in more.found], list(more.refused)
    return Findings(tuple(found), tuple(refused))


def _groups(family: Stacked | SeparateGates, tensors: Tensors, claimed: set[str]) -> Iterator[Group]:
    roles = _roles(family)
    spelled = "|".join(re.escape(name).replace("/", "[./]") for name in roles)
    layered = isinstance(family, Stacked) and family.layered
    pattern = re.compile(f"{PREFIX}(?P<role>{spelled}){LAYER if layered else ''}(?::0)?")
    groups: dict[str, Group] = {}
    for name in tensors:
        if name not in claimed and (match := pattern.fullmatch(name)):
            group = groups.setdefault(match["prefix"] or "", Group(family, match["prefix"] or ""))
            key = (int(match["layer"]), bool(match["reverse"])) if layered else (0, False)
            group.cells.setdefault(key, {})[roles[match["role"].replace(".", "/")]] = name
    required = set(family.required) if isinstance(family, Stacked) else {role for role in roles.values() if role[0] in "WU"}
    for group in groups.values():
        if any(required <= set(cell) for cell in group.cells.values()):
            yield group


def _add_biases(group: Group, tensors: Tensors) -> tuple[str, str]:
    """Add biases that have other names than those of the family, by their shapes.

    Return what to add to the evidence, and a warning if there are too many to tell which are the biases.
    """
    roles, *more = group.cells.values()
    if more or isinstance(group.family, SeparateGates) or set(roles) != {"W", "U"} or len(tensors[roles["U"]].shape) != 2:
        return "", ""
    start = group.prefix and roles["W"][: len(group.prefix) + 1]
    beside = [name for name in tensors if name.startswith(start) and not re.search("[./]", name[len(start) :])]
    biases = biases_of(max(tensors[roles["U"]].shape), (name for name in beside if name not in group.names), tensors)
    if len(biases) > 2:
        return "", f"{', '.join(map(printable, biases))} have the shape of a bias and are not read, as a GRU has two at most"
    roles.update(zip("bh", biases, strict=False))
    return f"; biases {' and '.join(map(printable, biases))} by their shapes" if biases else "", ""


def _check_pairs(group: Group) -> None:
    """Raise `NotAGRUError` for one bias of a pair. The other would be read as zeros, which gives other states than the model."""
    family = group.family
    if isinstance(family, SeparateGates) or not family.pairs:
        return
    for roles in group.cells.values():
        if ("b" in roles) != ("h" in roles):
            role, there, missing = ("b", family.b, family.b_h) if "b" in roles else ("h", family.b_h, family.b)
            name = printable(roles[role])
            other = missing.join(name.rsplit(there, 1))
            raise NotAGRUError(f"it has {name} without {other}; save both, with zeros for one that is not used")


def _roles(family: Stacked | SeparateGates) -> dict[str, str]:
    """Return the role of each name of a family: W U b h n for stacked gates, Wz … hn for separate gates."""
    if isinstance(family, Stacked):
        named = {family.W: "W", family.U: "U", family.b: "b", family.b_h: "h", family.b_hn: "n"}
    else:
        kinds = {"W": family.W, "U": family.U, "b": family.b, "h": family.b_h}
        named = {name: kind + gate for kind, names in kinds.items() for gate, name in zip("zrn", names, strict=True)}
    return {name: role for name, role in named.items() if name}


def _named_gru(group: Group, tensors: Tensors, name: str) -> FoundGRU:
    family = group.family
    cells = {key: _named_cell(family, cell, tensors) for key, cell in group.cells.items()}
    for spelled, role in _roles(family).items():
        if len({role in names for names in group.cells.values()}) > 1:
            raise NotAGRUError(f"{spelled} of one layer or direction is missing; save all of them")
    first = next(iter(cells.values()))
    convention, settled = _convention(family.convention, first)
    evidence = f"named as {family.label}: gates {_order_text(family, convention)}, reset {convention.reset}, z {convention.z}"
    warning = "; ".join(filter(None, (family.guess, "" if settled else "the place of the reset gate is not known")))
    if warning:
        warning += ": give an input and its output to prove it"
    return stack(name, cells, convention, evidence, warning)


def _order_text(family: Stacked | SeparateGates, convention: Convention) -> str:
    return " ".join(convention.order) if isinstance(family, Stacked) else "by name"


def _named_cell(family: Stacked | SeparateGates, names: dict[str, str], tensors: Tensors) -> CellArrays:
    def of(role: str) -> Tensor | None:
        return tensors[names[role]] if role in names else None

    if isinstance(family, Stacked):
        W, U = of("W"), of("U")
        if W is None or U is None:
            raise NotAGRUError(f"{family.W if W is None else family.U} of one layer or direction is missing")
        return stacked_cell(W, U, of("b"), of("h"), of("n"), family.convention.order)
    matrices = {kind: [of(kind + gate) for gate in "zrn"] for kind in "WUbh"}
    return apart_cell([w for w in matrices["W"] if w], [u for u in matrices["U"] if u], matrices["b"], matrices["h"])


def _convention(convention: Convention, cell: CellArrays) -> tuple[Convention, bool]:
    """Return `convention` with its reset, and True if the family or the biases determine it."""
    if convention.reset:
        return convention, True
    if cell.biases in ("two", "one and bhn"):  # two biases make a difference only if reset acts after the product
        return replace(convention, reset="after"), True
    return replace(convention, reset="before"), cell.biases == "one"
