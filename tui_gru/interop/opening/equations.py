"""The equations of a convention: a built-in cell whose gates or last line are changed to fit the convention."""

from __future__ import annotations

import re
from functools import lru_cache

from tui_gru.engine.model import text_of
from tui_gru.interop.found import Convention

_SHIPPED = {("before", "keeps"): "gru", ("before", "takes"): "gru-cho", ("after", "keeps"): "gru-reset-after"}
#: The formula of each gate function, with {} for its argument.
_GATES = {"hard_sigmoid": "clamp(0.2 ⊙ ({}) + 0.5)", "hard_sigmoid_6": "clamp(({}) / 6 + 0.5)"}
_GATE_LINE = re.compile(r"^((?:update|reset): .*= )σ\((.*)\)(\s*#.*)$", re.MULTILINE)
_KEEPS, _TAKES = "near 1 keeps the old state", "near 1 takes the candidate"


def cell_in(convention: Convention) -> tuple[str, str]:
    """Return the name of the cell and the text of its equations; the text is empty for a built-in cell."""
    return _cell(convention.reset, convention.z, convention.gate)


@lru_cache(maxsize=16)
def _cell(reset: str, z: str, gate: str) -> tuple[str, str]:
    shipped = _SHIPPED.get((reset, z), "")
    if shipped and gate == "sigmoid":
        return shipped, ""
    text = text_of("cell", shipped or "gru-reset-after")
    if not shipped:
        old, new = (re.search("^carry:.*$", each, re.MULTILINE) for each in (text, text_of("cell", "gru-cho")))
        assert old is not None
        assert new is not None
        text = text.replace(old[0], new[0]).replace(_KEEPS, _TAKES)
    if gate != "sigmoid":
        text = _GATE_LINE.sub(lambda line: line[1] + _GATES[gate].format(line[2]) + line[3], text)
    return f"gru, reset {reset}, z {z}, {gate}", text
