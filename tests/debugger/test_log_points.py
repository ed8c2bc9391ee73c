"""Log points: templates, formats, and columns of errors."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.extent import examples
from tui_gru.debugger.expressions import ConditionError
from tui_gru.debugger.stops import MAX_PRECISION, MAX_WIDTH, LogPoint

VALUES: Mapping[str, object] = {
    "z": np.array([[0.25, -0.5], [0.125, 2]], np.float32),
    "Wz": np.arange(16.0).reshape(8, 2),
    "loss": 1.25,
    "epoch": 3,
    "char": np.array(["M", "a"]),
    "target": np.array(["\n", "≤"]),
}
NAMES = frozenset(VALUES) | {"h"}


def rendered(template: str) -> str:
    return LogPoint.parse(template, NAMES).render(VALUES.get, {"loss": 1.5}.get)


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("", ""),
        ("no field", "no field"),
        ("loss {loss:.3f} z {z[0,1]} {{literal}}", "loss 1.250 z -0.5 {literal}"),
        ("{loss}{loss}", "1.251.25"),
        ("{{{epoch}}}", "{3}"),
        ("{prev(loss) − loss}", "0.25"),
        # formats
        ("{loss:8.3f}|{loss:<8.3f}|{loss:*^+9.2f}|", "   1.250|1.250   |**+1.25**|"),
        ("{loss:08.2f} {loss: .1e} {loss:.0%}", "00001.25  1.2e+00 125%"),
        ("{loss:.2} {loss / 3} {loss:g}", "1.2 0.416667 1.25"),
        ("{epoch:3d}|{epoch + 1}|{epoch:.1f}|{10 ** 14}|{10 ** 300}", "  3|4|3.0|100000000000000|1e+300"),
        ("{-10 ** 14}|{-10 ** 300}|{10 ** 15 - 1}|{10 ** 15}", "-100000000000000|-1e+300|999999999999999|1e+15"),
        ("{95 * 10 ** 13}|{105 * 10 ** 13}", "950000000000000|1.05e+15"),
        ("{loss:d}", "1.25"),
        ("{0 / 0} {1 / 0:.2f} {-1 / 0:+6}", "nan inf   -inf"),
        ("{loss > 1} {char[0]:>3}|{char[1]:.2f}|", "True   M|a|"),
        ("{h} {h[0, 0]:6.3f}|{h:<3}|{prev(z)}", "·      ·|·  |·"),
        ("{target[0]:>4}{target}", "   ⏎[⏎ ≤]"),
        # arrays
        ("{z}", "[[0.25 -0.5] [0.125 2]]"),
        ("{z[0]:+.2f}", "[+0.25 -0.50]"),
        ("{z > 0} {char}", "[[True False] [True True]] [M a]"),
        ("{Wz[:, 0]}", "[0 2 4 … 10 12 14]"),
        ("{Wz[:6, 0]}{Wz[:0]}", "[0 2 4 6 8 10][]"),
        ("{Wz[:3, 0]}{Wz[:4, 0]}{Wz[:7, 0]}", "[0 2 4][0 2 4 6][0 2 4 … 8 10 12]"),
        # where a field ends
        ("{z[0:1, 1]:.1f}", "[-0.5]"),
        ("{'}'}{':':>3}{'{'}", "}  :{"),
        ("{char[0] == '}'}}}", "False}"),
        ("{max(z[:, (0)]):.1f}", "0.2"),
    ],
)
def test_rendered(template: str, line: str) -> None:
    assert rendered(template) == line


@pytest.mark.parametrize(
    ("template", "column", "reason"),
    [
        ("a {", 3, "{ is never closed"),
        ("a {loss", 3, "{ is never closed"),
        ("a {loss:.3f", 3, "{ is never closed"),
        ("a } b", 3, "} closes nothing"),
        ("{{}", 3, "} closes nothing"),
        ("a {}", 4, "nothing to evaluate"),
        ("ŷ≤ { lss }", 6, "unknown name lss"),
        ("{loss} {loss = 3}", 14, "= assigns"),
        ("{loss!r}", 6, "use not"),
        ("{z.T}", 2, "an attribute"),
        ("{z[0}", 3, "never closed"),
        ("{z]}", 3, "unmatched"),
        ("{loss:{epoch}}", 7, "not a format"),
        ("{ {1: 2} }", 3, "{ is not allowed"),
        ("{loss:.3q}", 7, ".3q is not a format"),
        ("{loss:,}", 7, "not a format"),
        ("{loss:n}", 7, "not a format"),
        (f"{{loss:{MAX_WIDTH + 1}}}", 7, f"at most {MAX_WIDTH} wide"),
        (f"{{loss:.{MAX_PRECISION + 1}f}}", 7, f"{MAX_PRECISION} decimals"),
        ("{loss:9999999999}", 7, "not a format"),
        ("loss\n{loss}", 5, "a line break"),
        ("\x1b[2J{loss}", 1, "this character"),
        ("x" * 2000, 1001, "more than 1000 characters"),
        # when it is rendered
        ("{loss} {z[0, 2]}", 14, "index 2 is out of range"),
    ],
)
def test_refused(template: str, column: int, reason: str) -> None:
    with pytest.raises(ConditionError) as caught:
        rendered(template)
    assert reason in caught.value.reason
    assert caught.value.column == column


def test_names_it_reads() -> None:
    log_point = LogPoint.parse("{loss} {z[0]} {prev(h)}", NAMES)
    assert log_point.names == {"loss", "z", "h"}
    assert log_point.previous == {"h"}
    assert LogPoint.parse("none", NAMES).names == frozenset()


@settings(max_examples=examples(100, soak=2000))
@given(st.lists(st.sampled_from([*"{}{}[]():.'<>^+0159fdg%!= ", "{loss", "{z[0]", ":.3f}", "}}", "ŷ"])).map("".join))
def test_any_template(template: str) -> None:
    """The result is a ConditionError that points into the template, or a line of bounded length."""
    try:
        line = rendered(template)
    except ConditionError as error:
        assert 1 <= error.column <= len(template) + 1  # noqa: PT017
    else:
        assert len(line) <= (MAX_WIDTH * 16 + 1) * (len(template) + 1)
