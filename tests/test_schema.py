"""Data of files as dataclasses: what is written is read as it was, and anything else is refused with what is wrong."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import pytest

from tui_gru.engine.config import Config
from tui_gru.schema import Positive, Rate, Tokens, Whole, encoded, one_line, partly, reader, within


class Row(NamedTuple):
    tick: Whole
    text: str


@dataclass(frozen=True)
class Inner:
    size: Positive
    way: Literal["on", "back"] = "on"


@dataclass(frozen=True)
class Fact:
    name: Annotated[str, one_line(5)]
    rate: Rate
    cut: bool
    text: Tokens
    inner: Inner
    rows: tuple[Row, ...]
    pair: tuple[str, Whole] | None
    by_name: Mapping[str, tuple[Annotated[float, within(0, below=1)] | None, ...]]
    more: Any = None
    rule: Mapping[str, float] = field(default_factory=dict)


FACT = Fact("a b", 1, False, ("th", "e"), Inner(3), (Row(2**53, "x"), Row(0, "")), ("l", 7), {"k": (None, 0.5)})


@pytest.mark.parametrize("fact", [FACT, Fact("x", 0.5, True, "text", Inner(1, "back"), (), None, {}, {"any": [1]}, {"lr": 0.1})])
def test_what_is_written_is_read_as_it_was(fact):
    written = json.loads(json.dumps(encoded(fact)))
    assert reader(Fact)(written) == fact
    assert ("more" in written) == ("rule" in written) == (fact is not FACT)


@pytest.mark.parametrize(
    ("place", "value", "wrong"),
    [
        (("name",), "", "name is not a printable text of 1 to 5"), (("name",), "\x1b", "name is not a printable"),
        (("name",), 7, "name is not a text"), (("rate",), -1, "rate is not a number from 0"),
        (("rate",), True, "not a finite number"),
        (("rate",), float("nan"), "not a finite number"), (("cut",), 0, "cut is neither true nor false"),
        (("text",), 5, "text is not a list"), (("text",), [5], "text is not a text"),
        (("inner",), [], "inner does not have the fields"),
        (("inner", "size"), 0, "inner size is not a number from 1"), (("inner", "size"), 2.0, "inner size is not a whole number"),
        (("inner", "way"), "up", "inner way is not one of 'on', 'back'"), (("inner", "new"), 1, "does not have the fields size"),
        (("rows",), {}, "rows is not a list"), (("rows", 0), [1], "rows is not a list of 2"),
        (("rows", 0, 0), 2**53 + 1, "rows is not"),
        (("pair",), [], "pair is not a list of 2"), (("pair", 1), -1, "pair is not a number"), (("by_name",), [], "not an object"),
        (("by_name", "k"), [1], "by_name is not a number from 0"), (("unknown",), 1, "does not have the fields name"),
    ],
)  # fmt: skip
def test_anything_else_is_refused(place, value, wrong):
    written = json.loads(json.dumps(encoded(FACT)))
    at = written
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    with pytest.raises(ValueError, match=wrong):
        reader(Fact)(written)


def test_a_field_without_a_default_must_be_there_and_others_may_be_missing():
    written = encoded(FACT)
    del written["cut"]
    with pytest.raises(ValueError, match="does not have the fields name, rate, cut"):
        reader(Fact)(written)
    assert reader(Inner)({"size": 2}) == Inner(2)


def test_options_may_be_some_of_those_that_there_are():
    check = partly(Config)
    check({"hidden_size": 3, "text": ["a", "b"]})
    for wrong in ({"hidden_size": 0}, {"colour": "red"}, {"clip": "1"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            check(wrong)
