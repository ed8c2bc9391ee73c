"""The parser of a command's arguments: valid input, and the column that an error names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_gru.debugger.position import LARGEST, Reader, TypedError, is_number, quoted, whole_number


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
    assert read.entry() == entry
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
        reader(text).entry()
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
        Reader.entry,
        Reader.character,
        lambda r: r.number("z"),
        lambda r: r.whole("n"),
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
    assert whole_number(str(LARGEST)) == LARGEST
    assert whole_number("-007") == -7
    assert [whole_number(text) for text in (str(LARGEST + 1), "9" * 5000, "1e3", "", "²", "1.0")] == [None] * 6
    assert whole_number("0" * 5000 + "1") == 1
    with pytest.raises(TypedError, match="a count is at least 1, not 0"):
        reader("0").whole("a count", least=1)


def test_what_is_a_number():
    assert [is_number(text) for text in ("1", ".5", "-1e3", "nan")] == [True] * 4
    assert [is_number(text) for text in ("", "1x", "a", "1 2")] == [False] * 4
