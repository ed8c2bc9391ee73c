"""Equation files: declarations, lines and comments, and the errors for invalid files."""

from __future__ import annotations

import pytest

from tests.equations.reading import page, refused
from tui_gru.equations.page import LONGEST, MOST_LINES, CarriedState, Input
from tui_gru.equations.syntax import EquationError, File, SourceSpan

WHOLE = """# A cell of everything
reads u
state h : H, b : units backwards
input x : one-hot V, live, y : I
target t : one-hot vocabulary
parameters Wz bz, E(V D)
parameter Uz
output h
setting β = 0.9
symbol h ĥ \\hat{h}

update: z = σ(u Wz)   # a gate
  h -= z
b=z
"""


def test_every_declaration():
    read = page(WHOLE)
    assert (read.title, read.source, read.reads) == ("A cell of everything", "mine.cell", "u")
    assert read.states == {"h": CarriedState("H"), "b": CarriedState("H", backwards=True)}
    assert read.inputs == {
        "x": Input("V", one_hot=True),
        "live": Input(""),
        "y": Input("I"),
        "t": Input("V", one_hot=True, target=True),
    }
    assert read.parameters == {"Wz": (), "bz": (), "E": ("V", "D"), "Uz": ()}
    assert (read.outputs, read.settings, read.symbols) == (("h",), {"β": 0.9}, {"h": ("ĥ", r"\hat{h}")})
    assert [(line.label, line.target, line.op, line.note) for line in read.lines] == [
        ("update", "z", "=", "a gate"),
        ("", "h", "-=", ""),
        ("", "b", "=", ""),
    ]
    assert (read.before("h"), read.before("b"), read.received("h"), read.received("b")) == (
        "h_prev",
        "b_next",
        "dh_future",
        "db_past",
    )
    assert read.output == "b"


def test_numbers_with_which_parameters_begin():
    read = page("parameters Wz g = 1, bf(H) = −0.5 U(H H) = 0 bz")
    assert (read.parameters, read.initial) == (
        {"Wz": (), "g": (), "bf": ("H",), "U": ("H", "H"), "bz": ()},
        {"g": 1, "bf": -0.5, "U": 0},
    )


def test_a_page_without_lines_hands_on_its_input():
    assert page("# One-hot\ninput x : one-hot V").output == "x"


def test_names_have_their_places():
    read = page(WHOLE)
    assert read.places["bz"] == SourceSpan(File("mine.cell", tuple(WHOLE.split("\n"))), 6, 14, 16)
    assert read.places["z"].line == 12
    assert read.lines[1].span.start == 2


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_any_system_ends_them(end):
    assert page("\ufeffstate h : H" + end + end + "h = h_prev").places["h_prev"].line == 1
    assert page("state h : H" + end + end + "h = h_prev").lines[0].span.line == 3


def test_words_of_declarations_are_names_where_a_formula_follows():
    read = page("state = x\ninput: i = x + state\nsetting = i")
    assert [(line.label, line.target) for line in read.lines] == [("", "state"), ("input", "i"), ("", "setting")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "h",
            (
                "1:1: this is neither an equation, name = formula, nor a declaration: there are: reads input target state "
                "parameters parameter output setting symbol | h"
            ),
        ),
        (
            "paramters Wz",
            (
                "1:1: this is neither an equation, name = formula, nor a declaration: did you mean parameters or parameter? "
                "| paramters Wz"
            ),
        ),
        (
            "a b = c",
            (
                "1:1: this is neither an equation, name = formula, nor a declaration: there are: reads input target state "
                "parameters parameter output setting symbol | a b = c"
            ),
        ),
        ("2 = c", "1:1: '2' is not a name; an equation is written name = formula | 2"),
        ("z = x\nz = x", "2:1: z is already used in line 1; choose another name | z"),
        ("state h : H\nh = x\nh = x", "3:1: h is computed twice; a name can be computed by one line only | h"),
        ("state h : H\nh_prev = x", "2:1: h_prev is already used in line 1; choose another name | h_prev"),
        ("z = (a: x ⊙ y)+(a: x ⊙ x)", "1:16: a is already used in line 1; choose another name | (a: x ⊙ x)"),
        ("parameters W W", "1:14: W is already used in line 1; choose another name | W"),
        ("parameters Wz\nWz = x", "2:1: Wz is already used in line 1; choose another name | Wz"),
        ("state h", "1:7: the state h has one axis: h : H | h"),
        ("state h : H V", "1:7: the state h has one axis: h : H | h"),
        ("state h : B", "1:7: timesteps and rows are not declared, every input and state has them: a state is written h : H | h"),
        ("state", "1:6: a name is missing: a state is written h : H |"),
        ("state : H", "1:7: ':' is not a name: a state is written h : H | :"),
        ("state h : +", "1:7: '+' is not an axis: a state is written h : H | h"),
        ("input x : one-hot", "1:7: the input x has one axis: x : one-hot V | x"),
        ("input x : V H", "1:7: the input x has one axis: x : V | x"),
        ("parameters E(V D", "1:12: a bracket is not closed: parameters are written Wz bz E(V D) | E"),
        (
            "parameters E(T D)",
            "1:12: timesteps and rows are not declared, every input and state has them: parameters are written Wz bz E(V D) | E",
        ),
        ("parameters Wz g =", "1:18: a number is expected, with which all entries of g begin, as in g = 1 |"),
        ("parameters g = b", "1:16: a number is expected, with which all entries of g begin, as in g = 1 | b"),
        ("parameters g = − Wz", "1:18: a number is expected, with which all entries of g begin, as in g = 1 | Wz"),
        ("parameters g = 1e999", "1:16: a number lies between 1e-300 and 1e300 and has at most 40 digits | 1e999"),
        ("state h = 1", "1:9: '=' is not a name: a state is written h : H | ="),
        ("output h", "1:8: no line computes h; there are: none | h"),
        ("logits = x\noutput logit", "2:8: no line computes logit; did you mean logits? | logit"),
        ("sum = x", "1:1: sum is a word of formulas, as in sum x over rows; choose another name | sum"),
        ("output h : H", "1:8: the axes of the output h follow from its line; write output h | h"),
        ("reads", "1:6: a piece reads one name: reads x |"),
        ("reads x y", "1:7: a piece reads one name: reads x | x"),
        ("reads x\nreads y", "2:7: a piece reads one name, and this file already declares one | y"),
        ("setting β", "1:9: a setting is written setting β = 0.9 | β"),
        ("setting β = x", "1:9: a setting is written setting β = 0.9 | β"),
        ("setting β = 1e999", "1:13: a number lies between 1e-300 and 1e300 and has at most 40 digits | 1e999"),
        ("symbol h", r"1:8: a symbol is written symbol logits o, or with its LaTeX after it: symbol term1 ① \ell | h"),
        ("o = x\nsymbol logits o", "2:8: o is a name in this file, so it cannot also be the symbol of logits | logits"),
    ],
)
def test_what_cannot_be_read(text, message):
    assert refused(text) == f"mine.cell:{message}"


def test_a_mistake_is_shown_under_its_line():
    with pytest.raises(EquationError) as caught:
        page("state h : H\n\th̃ = tanh(x) ) \x1b[2J")
    message = "mine.cell:2:15: there is ')' where an operator or the end of the line is expected"
    assert caught.value.shown == f"{message}\n    h̃ = tanh(x) )  [2J\n                ~"


def test_signs_of_two_columns_are_marked_with_two():
    with pytest.raises(EquationError) as caught:
        page("z = 値 ) 値")
    assert caught.value.shown.splitlines()[1:] == ["   z = 値 ) 値", "          ~"]


def test_a_file_that_is_too_long():
    with pytest.raises(EquationError, match=r"^mine.cell: the file has 200,001 characters; an equation file has at most 200,000$"):
        page(" " * (LONGEST + 1))


def test_too_many_equations():
    text = "\n".join(f"v{i} = x" for i in range(MOST_LINES + 1))
    assert refused(text).startswith(f"mine.cell:{MOST_LINES + 1}:1: more than {MOST_LINES} equations in one file")


@pytest.mark.parametrize(
    "text", [" " * 190_000 + ":", "a" + " " * 190_000 + "b", "a" * 190_000, "= " * 90_000, "(" * 190_000, "'" * 190_000]
)
def test_long_lines_are_refused_in_a_moment(text):
    with pytest.raises(EquationError):
        page(text)
