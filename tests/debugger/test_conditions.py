"""The expression language: valid expressions and their meaning, and the errors for invalid ones."""

import inspect
import sys
import unicodedata
from collections.abc import Mapping

import numpy as np
import pytest

from tests.debugger import models
from tui_gru import Session
from tui_gru.debugger.expressions import MAX_DEPTH, MAX_LENGTH, ConditionError, compile_condition, compile_expression
from tui_gru.debugger.possible import refuse_impossible
from tui_gru.debugger.program import program_of
from tui_gru.engine.config import Config
from tui_gru.errors import TuiGruError

Z = np.array([[0.25, 0.5, -1.0], [2.0, 0.125, 4.0]], np.float32)
H = np.array([[1.0, -2.0, 3.0], [0.5, 0.0, -0.5]], np.float32)
Z_BEFORE = Z + 1

VALUES: Mapping[str, object] = {
    "z": Z,
    "h": H,
    "h_tilde": -H,
    "dh_tilde": 2 * H,
    "logits": 3 * H,
    "dlogits": 4 * H,
    "y_hat": H + 10,
    "term2": np.array([-1.5, np.nan], np.float32),
    "Wz": np.ones((4, 3), np.float32),
    "loss": 1.25,
    "grad_norm": float("inf"),
    "epoch": 3,
    "batch": np.int64(2),
    "t": 1,
    "char": np.array(["M", "a"]),
    "target": np.array(["a", "≤"]),
}
WRITER = program_of(Config.of()).writer
NAMES = {spelled: name for name in (*VALUES, "r", "norms") for spelled in (name, WRITER.name(name))}
BEFORE = {"z": Z_BEFORE, "loss": 1.5, "t": 0}

for array in (*VALUES.values(), *BEFORE.values()):
    if isinstance(array, np.ndarray):
        array.flags.writeable = False


def holds(source: str) -> bool:
    return compile_condition(source, NAMES).test(VALUES.get, BEFORE.get)


def value(source: str) -> object:
    return compile_expression(source, NAMES).value(VALUES.get, BEFORE.get)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("loss < 2", True),
        ("  loss<2\t", True),
        ("loss == 1.25", True),
        ("loss != 1.25", False),
        ("loss", True),
        ("loss - 1.25", False),
        ("True", True),
        ("1or 0", True),
        # chains and short circuits: parts that are not reached raise no error
        ("1 < loss < 2", True),
        ("1 < loss < 1.1", False),
        ("2 < loss < loss[0]", False),
        ("1 < loss < 2 <= batch == 2", True),
        ("loss > 2 and loss[0] > 1", False),
        ("loss < 2 or loss[0] > 1", True),
        ("loss > 2 and z > 0 or epoch == 3", True),
        ("not loss > 2", True),
        ("not loss > 2 and not epoch == 3", False),
        # arithmetic, with the precedence of Python and the division of NumPy
        ("2 + 3 * 4 == 14", True),
        ("-2 ** 2 == -4", True),
        ("2 ** 3 ** 2 == 512", True),
        ("7 // 2 == 3 and -7 // 2 == -4", True),
        ("epoch % 2 == 1 and -1 % 3 == 2", True),
        ("+loss == 1.25", True),
        ("1 / 0 > 10 ** 300", True),
        ("0 / 0 == 0 / 0", False),
        ("isnan(0 / 0) and isnan(0 // 0) and isnan(1 % 0)", True),
        ("9 ** 9 ** 9 ** 9 > 1", True),
        ("0.1 + 0.2 == 0.3", False),
        ("True + True == 2", True),
        ("argmax(z) >= 0 and argmax(loss) == 0", True),
        ("log(4) == 1.3862943611198906 and exp(0) == 1 and sqrt(2.25) == 1.5", True),
        ("σ(0) == 0.5 and sigmoid(-9999) == 0 and tanh(0) == 0 and isnan(log(-1))", True),
        # arrays
        ("any(z > 3)", True),
        ("all(z > 0)", False),
        ("z[1, 2] == 4", True),
        ("z[1][2] == 4", True),
        ("z[-1, -1] == 4", True),
        ("z[t, t + 1] == 4", True),
        ("z[4 / 4, 2.0] == 4", True),
        ("sum(z[0]) == -0.25", True),
        ("sum(z[:, 1]) == 0.625", True),
        ("sum(z[:t]) == -0.25", True),
        ("sum(z[-1e300:1e300]) == sum(z)", True),
        ("all(z[::-1, 1:][0] == z[1, 1:])", True),
        ("z[0:1, 2:3] < 0", True),
        ("min(z) == -1 and max(z) == 4", True),
        ("mean(h) == 2 / 6", True),
        ("sum(h[:0]) == 0 and norm(h[:0]) == 0 and all(h[:0]) and not any(h[:0])", True),
        ("norm(h[0]) ** 2 - 14 < 0.0001", True),
        ("max(abs(h)) == 3", True),
        ("any(isnan(term2)) and not all(isnan(term2))", True),
        ("isfinite(loss) and not isfinite(grad_norm)", True),
        ("all(z * h == h * z)", True),
        ("max(z + h[0]) == 7", True),
        ("max(h[:, 0:1] * h[0]) == 3", True),
        ("norm(loss) == loss == sum(loss) == mean(loss) == min(loss) == max(loss) == abs(-loss)", True),
        # the previous value
        ("prev(loss) > loss", True),
        ("all(prev(z) - z == 1)", True),
        ("prev(z)[0, 0] == 1.25", True),
        ("prev(z[0, 0]) == 1.25", True),
        # characters
        ("char[0] == 'M'", True),
        ("any(char == 'a') and char[1] != 'M'", True),
        ("char[0] == target[0]", False),
        ("char[1] == target[0]", True),
        ("'a' <= char[1] <= 'z'", True),
        ('target[1] == "≤"', True),
        (r"char[0] == '\x4d'", True),
        ("'#' == '=' or '!' == '&'", False),
        # in the spelling of the screen
        ("loss ≤ 1.25 and loss ≥ 1.25 and loss ≠ −1", True),
        ("2 × loss == 2 · loss == 2 ⊙ loss == 2.5", True),
        ("ŷ[0, 0] == 11", True),
        ("h̃[0, 0] == -1 and dh̃[0, 0] == 2", True),
        ("o[0, 0] == 3 and do[0, 0] == 4", True),
        ("ｌｏｓｓ < 2", True),
    ],
)
def test_accepted(source: str, expected: bool) -> None:
    assert holds(source) is expected


@pytest.mark.parametrize(
    ("source", "column", "reason"),
    [
        # common mistakes
        ("loss = 3", 6, "= assigns; use == to compare"),
        ("loss < 1 and epoch = 3", 20, "= assigns"),
        ("(loss := 3)", 7, ":= assigns"),
        ("loss === 3", 8, "= assigns"),
        ("norm(h, axis=1) > 3", 13, "= assigns"),
        ("loss => 3", 6, "use >="),
        ("loss =< 3", 6, "use <="),
        ("loss <> 3", 6, "use !="),
        ("loss < 3 && t", 10, "use and"),
        ("loss < 3 & t", 10, "use and"),
        ("loss < 3 || t", 10, "use or"),
        ("!t", 1, "use not"),
        ("~t", 1, "use not"),
        ("loss^2 > 1", 5, "use **"),
        ("h @ Wz", 3, "sum(a * b)"),
        ("loss < 1 # low", 10, "a comment"),
        # truth of arrays
        ("z > 1", 1, "z > 1 has 6 values; use any(...) or all(...)"),
        ("loss < 2 and  z", 15, "z has 6 values; use any(...) or all(...)"),
        ("not z", 5, "z has 6 values"),
        ("char == 'M'", 1, "char == 'M' has 2 values; use any(...) or all(...)"),
        ("0 < z < 1", 1, "has 6 values; write the two comparisons separately"),
        ("z[:0] > 1", 1, "has 0 values"),
        # names and functions
        ("lss < 1", 1, "unknown name lss; did you mean loss"),
        ("1 < Loss", 5, "unknown name Loss; did you mean loss"),
        ("loss < xyzzy", 8, "unknown name xyzzy; there are: Wz batch"),
        ("prev(hh) > 1", 6, "unknown name hh"),
        ("norm > 1", 1, "norm is a function; write norm(...)"),
        ("1 + print(1)", 5, "no function print; the functions are any, all, min, max"),
        ("h(0)", 1, "no function h"),
        ("any(z, 1)", 1, "any takes one value"),
        ("any()", 1, "any takes one value"),
        ("max(**z)", 1, "max takes one value"),
        ("prev(z[0][1])", 6, "prev takes a name"),
        ("prev(z + 1)", 6, "prev takes a name"),
        ("prev(prev(z))", 6, "prev takes a name"),
        # unsupported constructs
        ("z.T", 1, "an attribute is not allowed here"),
        ("1 < z.mean()", 5, "write mean(...)"),
        ("loss.__class__", 1, "an attribute"),
        ("(lambda: 1)()", 2, "lambda"),
        ("any(v for v in z)", 4, "a comprehension"),
        ("[v for v in z]", 1, "a comprehension"),
        ("[1, 2]", 1, "a list"),
        ("(1, 2)", 1, "a comma"),
        ("{1: 2}", 1, "a dictionary"),
        ("1 if t else 2", 1, "if … else"),
        ("char[0] in 'abc'", 1, "in is not allowed"),
        ("loss is 1", 1, "is is not allowed"),
        ("1 << 3", 1, "<< is not allowed"),
        ("f'{loss}'", 1, "an f-string"),
        ("any(*z)", 5, "not allowed here"),
        ("None", 1, "None is not allowed here"),
        ("1j", 1, "1j is not allowed here"),
        ("b'M'", 1, "not allowed here"),
        ("z[...]", 3, "... is not allowed here"),
        ("char == 'Ma'", 9, "2 characters"),
        ("char == ''", 9, "0 characters"),
        ("__import__('os').system('true')", 1, "an attribute"),
        # evaluating
        ("1 < z[0, 3]", 10, "index 3 is out of range: this axis has 3"),
        ("z[-3, 0]", 3, "out of range"),
        ("z[1e300, 0]", 3, "out of range"),
        ("z[0.5, 0]", 3, "0.5 is not a whole number"),
        ("z[0 / 0, 0]", 3, "not a whole number"),
        ("z[z > 1]", 3, "an index is one whole number"),
        ("z['M']", 3, "'M' is text"),
        ("z[0, 0, 0]", 1, "has 3 indices; there are 2 axes"),
        ("z[::0]", 3, "a step of 0"),
        ("2 < loss[0]", 5, "a single value takes no index"),
        ("1 + (z + Wz)", 6, "z + Wz combines the shapes (2, 3) and (4, 3)"),
        ("any(z > Wz)", 5, "combines the shapes"),
        ("min(z[:0])", 1, "no values, so no min"),
        ("mean(z[:0])", 1, "no values, so no mean"),
        ("char + 1", 1, "char is text; a number is needed here"),
        ("-char", 2, "char is text"),
        ("sum(char)", 1, "is text"),
        ("char[0] == 3", 1, "compares text with a number"),
        ("char[0]", 1, "char[0] is text; compare it"),
        # syntax
        ("", 1, "nothing to evaluate"),
        ("loss <", 7, "ends too early"),
        ("(loss", 1, "never closed"),
        ("loss) < 1", 5, "unmatched"),
        ("z[0", 2, "never closed"),
        ("loss < < 1", 8, "invalid syntax"),
        ("loss < 1; t", 9, "invalid syntax"),
        ("loss <\n1", 7, "a line break is not allowed here"),
        ("los\0s", 4, "this character is not allowed here"),
        ("los\ud800s", 4, "this character is not allowed here"),
        ("1" * 400, 1, "too large"),
        # columns count characters of what was typed
        ("  lss < 1", 3, "unknown name lss"),
        ("h̃ ≤ ŷ ≠ lss", 10, "unknown name lss"),
        ("'ŷ' == 'é' and lss", 16, "unknown name lss"),
        ("ŷ ≥ ≥ 1", 5, "invalid syntax"),
        ("ｌｏｓｓ ≤ z.T", 8, "an attribute"),
    ],
)
def test_rejected(source: str, column: int, reason: str) -> None:
    with pytest.raises(ConditionError) as caught:
        holds(source)
    assert reason in caught.value.reason
    assert caught.value.column == column
    assert str(caught.value) == f"column {column}: {caught.value.reason}"
    assert isinstance(caught.value, TuiGruError)


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_screen_spellings_in_every_normal_form(form: str) -> None:
    source = unicodedata.normalize(form, "ŷ[0, 0] - h̃[0, 0] + nowhere")
    with pytest.raises(ConditionError) as caught:
        compile_condition(source, NAMES)
    assert caught.value.column == source.index("nowhere") + 1
    assert compile_condition(source.replace("nowhere", "0"), NAMES).names == {"y_hat", "h_tilde"}


def test_a_screen_spelling_gives_way_to_a_name() -> None:
    cell = "reads x\nstate h : H\nparameters W U\no = x W\nh = tanh(o + h_prev U)"
    spellings = program_of(Config.of(cell="o.cell", cell_text=cell)).spellings
    assert compile_condition("any(o > 1)", spellings).names == {"o"}
    assert compile_condition("any(logits > 1)", spellings).names == {"logits"}


@pytest.mark.parametrize("word", ["in", "lambda", "None", "is"])
def test_a_name_may_be_a_word_of_python(word: str) -> None:
    """A cell may call its input gate `in`."""
    cell = f"state h : H\nparameters W U\n{word} = σ(x W)\nh = tanh({word} + h_prev U)"
    spellings = program_of(Config.of(cell="word.cell", cell_text=cell)).spellings
    assert compile_condition(f"min({word}) > 0 and prev({word}[0, 0]) > h[0, 0]", spellings).names == {word, "h"}
    with pytest.raises(ConditionError) as caught:
        compile_condition(f"any({word} > 1) and nowhere", spellings)
    assert caught.value.column == len(f"any({word} > 1) and ") + 1


def test_one_row_has_one_character() -> None:
    one = {"char": np.array(["M"])}
    assert compile_condition("char == 'M'", set(one)).test(one.get) is True
    assert compile_condition("char == 'a'", set(one)).test(one.get) is False


def test_names_it_reads() -> None:
    condition = compile_condition(" prev(loss) > 1 and any(h̃ > prev(z)) ", NAMES)
    assert condition.source == " prev(loss) > 1 and any(h̃ > prev(z)) "
    assert condition.names == {"loss", "h_tilde", "z"}
    assert condition.previous == {"loss", "z"}


def test_reads_only_what_it_names() -> None:
    asked: list[str] = []

    def read(name: str) -> object:
        asked.append(name)
        return 1.0

    compile_condition("loss > prev(grad_norm) and loss > 0", NAMES).test(read, lambda name: 0.0)
    assert asked == ["loss"]


@pytest.mark.parametrize("source", ["any(r > 0)", "epoch == 3 or any(r > 0)", "not any(r > 0)", "prev(h)[0, 0] < 9"])
def test_false_where_a_name_is_not_computed_yet(source: str) -> None:
    assert holds(source) is False


def test_false_where_there_is_nothing_before() -> None:
    condition = compile_condition("prev(loss) > 0", NAMES)
    assert condition.test(VALUES.get) is False
    assert not condition.over_columns({"loss": np.ones(3)}).any()


def test_zero_is_a_value() -> None:
    assert compile_condition("t == 0 and prev(t) == 0", NAMES).test({"t": 0}.get, {"t": 0}.get) is True


def test_values() -> None:
    assert value("epoch") == 3
    assert value("loss * 2") == 2.5
    assert value("loss > 2 or z[0, 0] > 3") is False
    assert value("char[0]") == "M"
    assert value("r + 1") is None
    np.testing.assert_array_equal(value("z > prev(z) - 1"), np.zeros((2, 3), bool))
    np.testing.assert_array_equal(value("h ** 2"), H.astype(np.float64) ** 2)


def test_a_value_is_its_own_and_read_only() -> None:
    shown = value("z")
    assert isinstance(shown, np.ndarray)
    assert shown.dtype == np.float32
    assert not shown.flags.writeable
    assert not np.shares_memory(shown, Z)


def test_equal_conditions_are_equal() -> None:
    assert compile_condition("loss < 1", NAMES) == compile_condition("loss < 1", NAMES)
    assert compile_condition("loss < 1", NAMES) != compile_condition("loss < 2", NAMES)


def test_size_is_bounded() -> None:
    assert holds("loss < 2 or " + " " * (MAX_LENGTH - 13) + "t")
    with pytest.raises(ConditionError, match=f"column {MAX_LENGTH + 1}: more than {MAX_LENGTH} characters"):
        holds("loss < 2 or " + " " * (MAX_LENGTH - 12) + "t")


def test_nesting_is_bounded() -> None:
    assert holds("-" * (MAX_DEPTH - 1) + "1")
    for deep in ("-" * MAX_DEPTH + "1", "+".join("1" * (MAX_DEPTH + 1)), "abs(" * 150 + "1" + ")" * 150):
        with pytest.raises(ConditionError, match="nested"):
            holds(deep)
    assert holds(" and ".join(["t"] * 140))
    with pytest.raises(ConditionError):
        holds("(" * 400 + "1" + ")" * 400)


def test_nesting_is_refused_deep_in_the_stack() -> None:
    def call_at(depth: int, source: str) -> bool:
        return holds(source) if depth == 0 else call_at(depth - 1, source)

    used = len(inspect.stack(0))
    with pytest.raises(ConditionError, match="nested"):
        call_at(sys.getrecursionlimit() - used - 100, "-" * 990 + "1")


@models.parametrize("gru", "lstm", "both ways", "gru after, notebook, adam")
def test_every_name_may_be_spelled_as_on_the_screen(model):
    program = program_of(Config.of(**model))
    told_apart = 0
    for name in program.readable:
        shown = program.writer.name(name)
        told_apart += shown != name
        condition = compile_condition(f"loss > 1 and max({shown} + {name}) > 0", program.spellings)
        assert condition.names == {"loss", name}
        with pytest.raises(ConditionError) as caught:
            compile_condition(f"{shown} > nowhere", program.spellings)
        assert caught.value.column == len(f"{shown} > ") + 1
    assert told_apart > 10


def test_a_screen_name_in_quotes_is_text():
    assert compile_condition("char == '①'", {"char"}).test({"char": np.array(["①"])}.get) is True


@pytest.mark.parametrize(
    ("source", "column", "reason"),
    [
        ("t == 7", 1, "t == 7 never holds: t is 1 to 3: a batch has 3 timesteps"),
        ("loss < 1 and batch == 40", 14, "an epoch has 3 batches; step counts those of the whole run"),
        ("t == 9 or epoch == 0", 1, "a batch has 3 timesteps"),
        ("not t < 9", 1, "a batch has 3 timesteps"),
        ("any(char == 'Q')", 5, "there is no 'Q' in the vocabulary; there are: h a t M"),
        ("argmax(h) == 5", 1, "argmax counts the 4 numbers from 0: 0 to 3"),
        ("argmax(h[0]) == 2", 1, "argmax counts the 2 numbers from 0: 0 to 1"),
        ("epoch % 10 == 10", 1, "what is left by 10 is 0 to 9"),
        ("norm(h) < 0", 1, "norm has no number below 0"),
        ("t + 4 < batch", 1, "a batch has 3 timesteps; batch is 1 to 3"),
        ("term3 t 7 > 1", 1, "a batch has the timesteps 1 to 3, not 7"),
        ("loss t 1 > 1", 1, "loss has no timesteps; leave out t 1"),
        ("z[0, 0] t 1 > loss", 15, "loss is known after the last timestep only, not at timestep 1"),
        ("all(z t 1 > z t 2)", 13, "tested at one timestep, not at 1 and 2"),
        ("loss[1] > 1", 1, "that of a timestep is ③ t 1"),
        ("k == 3", 1, "unknown name k; step counts the batches of the whole run"),
        ("e3", 1, "as a condition it is epoch == 3, and go e3 goes there"),
        ("lr < 1", 1, "learning_rate is its name here"),
        ("h_l4[0, 0] > 1", 1, "h has no layers here; write it without a suffix"),
    ],
)
def test_what_can_never_hold_is_refused_with_the_reason(source: str, column: int, reason: str) -> None:
    with pytest.raises(ConditionError) as caught:
        refuse_impossible(source, program_of(Config.of()))
    assert reason in caught.value.reason
    assert caught.value.column == column


@pytest.mark.parametrize(
    "source",
    [
        "t == 3 and batch == 3 and epoch == 10**9",
        "any(char == 'M') or t == 7",
        "isnan(loss) or not (loss < 9)",
        "all(h[:0] > 9) and not t == 7",
        "all(char[:0] == 'Q')",
        "prev(t) > t and t != 2",
        "loss - loss != 0 and abs(loss) >= 0",
        "argmax(h) == 3 and epoch % 10 == 9 and step > 1000000",
        "-t > -2 and t * t == 9 and epoch - batch < -1",
        "any(h > 5)",  # an edit may make it so
        "term3 t 2 > Wz[0, 0] and epoch < 9",
    ],
)
def test_what_may_hold_is_not_refused(source: str) -> None:
    refuse_impossible(source, program_of(Config.of()))


@pytest.mark.parametrize("source", ["term3 t 2 > 0", "③ t 2 > 0", "term3[t=2] > 0", "term3[t 2] > 0", "y_hat[row 1, “a”, t 2] > 0"])
def test_a_condition_on_one_timestep(source: str) -> None:
    session = Session()
    assert session.run_until(source)
    assert session.position.t == 1
    assert session.run_until(source)
    assert (session.position.batch, session.position.t) == (1, 1)


def test_what_is_past_and_what_is_never_computed_is_refused_where_a_run_would_have_no_end() -> None:
    session = Session()
    with pytest.raises(ConditionError, match="grad_norm: only batches that learn compute this, and learning is off"):
        session.run_until("grad_norm > 1")
    session.step("epoch", 4)
    with pytest.raises(ConditionError, match="epoch is 5 from here on, and only grows; back epoch == 3 goes back in time"):
        session.run_until("epoch == 3")
    assert session.run_back_until("epoch == 3")
    assert session.run_to_first("epoch == 2")
    with pytest.raises(ConditionError, match="never holds: t is 1 to 3"):
        session.break_at("z", condition="t == 4")
    assert not session.stops.all
