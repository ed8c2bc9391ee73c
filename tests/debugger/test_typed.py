"""The parser of a command's arguments: valid input, and the column that an error names."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_gru import Session
from tui_gru.debugger.expressions import ConditionError, compile_expression, in_screen_spelling
from tui_gru.debugger.position import FAR, Reader, TypedError, is_number, quoted, typed_entry, whole_number

PROGRAM = Session().program


def reader(text):
    return Reader(text, "Wz[0,1] 0.5")


@pytest.mark.parametrize(
    ("text", "entry", "left"),
    [
        ("Wz[0,1] 0.5", ("Wz", (0, 1)), "0.5"),
        ("Wz [ 0 , -1 ]0.5", ("Wz", (0, -1)), "0.5"),
        ("learning_rate=0.1", ("learning_rate", ()), "=0.1"),
        ("text[3] ' '", ("text", (3,)), "' '"),
        ("hₜ₋₁[−1] 1", ("hₜ₋₁", (-1,)), "1"),
        ("loss", ("loss", ()), ""),
    ],
)
def test_an_entry(text, entry, left):
    read = reader(text)
    assert read.entry(PROGRAM) == entry
    assert read.left == left


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("Wz[,,] 1", 4, "an index is a whole number, not ',,] 1'"),
        ("Wz[1 2,0] 1", 6, "whole numbers separated by commas and ends with ], not '2,0] 1'"),
        ("Wz[- -,0] 1", 4, "an index is a whole number, not '- -,0] 1'"),
        ("Wz[,]", 4, "an index is a whole number"),
        ("Wz[]", 4, "an index is a whole number"),
        ("Wz[0", 5, "ends with ], not nothing"),
        ("Wz[0.5,0]", 4, "an index is a whole number, not '0.5'"),
        ("Wz[1e9,0]", 4, "an index is a whole number, not '1e9'"),
        ("Wz[²,0]", 4, "an index is a whole number"),
        (f"Wz[{'9' * 5000},0]", 4, "an index is at most 1,000,000,000,000,000, not 9999"),
        ("[0,1]", 1, "the name of a value comes first"),
        ("", 1, "the name of a value comes first"),
    ],
)
def test_no_entry(text, column, reason):
    with pytest.raises(TypedError) as caught:
        reader(text).entry(PROGRAM)
    assert caught.value.column == column
    assert reason in caught.value.reason
    assert len(str(caught.value)) < 160


@pytest.mark.parametrize(
    ("text", "number"), [("0.5", 0.5), ("-1", -1), ("−.5e−3", -0.0005), ("1.", 1), ("+2E3 t 2", 2000), ("1e999", float("inf"))]
)
def test_a_number(text, number):
    assert reader(text).number("z") == number


@pytest.mark.parametrize(
    "text", ["", "x", "0.5x", "{[]}", "[0]", "0x1f", "1_0", "1+1", "-" * 5000 + "1", "+".join("1" * 3000), "٣", "True"]
)
def test_no_number(text):
    with pytest.raises(TypedError, match=r"^column 1: z takes a number, not "):
        reader(text).number("z")


@pytest.mark.parametrize(
    ("text", "char"), [("a", "a"), ("'", "'"), ("' '", " "), ("'\\n'", "\n"), ('"\'"', "'"), ("'\\x41'", "A"), ("=", "=")]
)
def test_a_character(text, char):
    assert reader(text).character() == char


@pytest.mark.parametrize("text", ["", "ab", "''", "'ab'", "'\\q'", "'\\u12'", "[[" * 50_000])
def test_no_character(text):
    with pytest.raises(TypedError, match="a character is typed as a, or as ' ' in quotes"):
        reader(text).character()


@given(st.characters())
def test_any_character_can_be_typed(char):
    assert reader(quoted(char)).character() == char


@given(st.text())
def test_any_text_is_read_or_refused_by_its_column(text):
    for read in (
        lambda r: r.entry(PROGRAM),
        Reader.character,
        lambda r: r.number("z"),
        lambda r: r.integer("n"),
        lambda r: r.timestep(3),
        Reader.end,
    ):
        column = None
        try:
            read(reader(text))
        except TypedError as error:
            column = error.column
        assert column is None or 1 <= column <= len(text) + 1


@pytest.mark.parametrize(
    ("text", "t"),
    [
        ("", None),
        ("t 2", 1),
        ("T1", 0),
        ("t 0", "at least 1"),
        ("t 4", "at most 3"),
        ("x", "not understood"),
        ("t", "whole number"),
    ],
)
def test_a_timestep(text, t):
    if t is None or isinstance(t, int):
        assert reader(text).timestep(3) == t
    else:
        with pytest.raises(TypedError, match=t):
            reader(text).timestep(3)


def test_whole_numbers_have_a_bound():
    assert whole_number(str(FAR)) == FAR
    assert whole_number("-007") == -7
    assert [whole_number(text) for text in (str(FAR + 1), "9" * 5000, "1e3", "", "²", "1.0")] == [None] * 6
    assert whole_number("0" * 5000 + "1") == 1
    with pytest.raises(TypedError, match="a count is at least 1, not 0"):
        reader("0").integer("a count", least=1)


def test_what_is_a_number():
    assert [is_number(text) for text in ("1", ".5", "-1e3", "nan")] == [True] * 4
    assert [is_number(text) for text in ("", "1x", "a", "1 2")] == [False] * 4


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("z[row 1, unit 2]", (0, 1)),
        ("z[ row 2,unit 1 ]", (1, 0)),
        ("z[row 2, 1]", (1, 0)),
        ("Wz[“M”, unit 1]", (3, 0)),
        ('Wz["M", unit 1]', (3, 0)),
        ("Wz['M', 1]", (3, 0)),
        ("Wz[M, 1]", (3, 0)),
        ("Wz[t, 2]", (2, 1)),
        ("Wz[character 4, unit 1]", (3, 0)),
        ("hₜ₋₁[row 2, unit 1]", (1, 0)),
        ("bz[unit 2]", (1,)),
        ("Wz[3,0]", (3, 0)),
    ],
)
def test_an_entry_as_on_the_screen(text, index):
    read = reader(f"{text} 0.5")
    name, found = read.entry(PROGRAM)
    assert (name, found, read.left) == (text.partition("[")[0], index, "0.5")
    if index != (3, 0) or "M" in text:
        compiled = compile_expression(text, PROGRAM.spellings)
        shape = PROGRAM.shapes[PROGRAM.code_name(name)]
        value = np.arange(float(np.prod(shape))).reshape(shape)
        assert compiled.value(lambda name: value) == value[index]


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("z[row 3, unit 1]", 3, "z has the rows 1 to 2 here, not row 3"),
        ("z[row 0, unit 1]", 3, "z has the rows 1 to 2 here, not row 0"),
        ("Wz[M, 0]", 7, "Wz has the units 1 to 2 here, not unit 0; in words and characters they count from 1"),
        ("z[unit 1, row 1]", 3, "z has no unit here, but a row: z[row 1, unit 1]"),
        ("z[row 1]", 3, "an entry of z has 2 indices: z[row 1, unit 1]"),
        ("loss[row 1]", 6, "loss is one number"),
        ("Wz[q, unit 1]", 4, "there is no 'q' in the vocabulary"),
        ("z[“M”, unit 1]", 3, "an index of z here is a row, not '“M”'"),
    ],
)
def test_an_entry_that_the_screen_does_not_show(text, column, reason):
    with pytest.raises(TypedError) as typed:
        reader(text).entry(PROGRAM)
    with pytest.raises(ConditionError) as in_condition:
        compile_expression(text, PROGRAM.spellings)
    for caught in (typed, in_condition):
        assert (caught.value.column, caught.value.reason[: len(reason)]) == (column, reason)


CHARACTERS = "a “b” ,]\xa0 \n[␣\"'\\1漢"


def test_every_character_names_its_own_row():
    session = Session(text=CHARACTERS * 6, batch_size=1, seq_length=3)
    program, weights = session.program, session.value("Wz")
    for i in range(len(program.config.vocabulary)):
        typed = typed_entry(program, "Wz", (i, 1))
        assert Reader(typed, "").entry(program) == ("Wz", (i, 1))
        assert compile_expression(typed, program.spellings).value({"Wz": weights}.get) == weights[i, 1]


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("z[0,1] > 0.9", "z[row 1, unit 2] > 0.9"),
        ("abs(Wz[3, 0] - prev(Wz)[3, 0]) > 1", "abs(Wz[“M”, unit 1] - prev(Wz)[“M”, unit 1]) > 1"),
        ("z[row 1, unit 2] ≥ hₜ₋₁[1,0]", "z[row 1, unit 2] ≥ hₜ₋₁[row 2, unit 1]"),
        ("char[0] == “M”", "char[row 1] == “M”"),
        ("any(z[0] > 0)", "any(z[0] > 0)"),
        ("z[t - 1, 0] > z[:1, 1]", "z[t - 1, 0] > z[:1, 1]"),
        ("z[0, 1", "z[0, 1"),
    ],
)
def test_a_condition_in_the_spelling_of_the_screen(typed, shown):
    assert in_screen_spelling(typed, PROGRAM.spellings) == shown
    if "1" in typed.partition("]")[2]:
        first, second = (compile_expression(each, PROGRAM.spellings).names for each in (typed, shown))
        assert first == second
