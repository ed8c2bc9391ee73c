"""The expressions of a lesson: the language of conditions, on several models, at other timesteps, with results of analyses."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tui_gru.debugger.position import TypedError
from tui_gru.engine.config import SAMPLERS
from tui_gru.engine.numbers import significant
from tui_gru.errors import TuiGruError
from tui_gru.session.session import Session

# ------------------------------------------------------------------------------
# Evaluation.


_NAME = r"[^\W\d][\w₋₊←→\u0300-\u036f]*|[①②③]"
WORD = re.compile(_NAME)  # a name in an expression
_AT_TIMESTEP = re.compile(rf"((?:{_NAME})(?:\[[^\]]*\])?) t (\d+)(?!\w)")
_INSERTED = re.compile(r"\{([^{}]*)\}")
#: A result: its word, then its arguments in parentheses or, as on the `:` line, after blanks.
_RESULT = re.compile(r"(?<![\w.])(keeps|losses|reach|say)(?!\w)(?:\(([^()]*)\)|((?: [^\s()<>=+*/|-][^\s()<>=+*/|]*| -?[\d.]+)*))")


def keeps(session: Session, name: str = "") -> float:
    """Return the largest |λ| of the derivative of a state by the state before, in row 1 in the middle of the batch: the share that
    its slowest direction keeps in a timestep."""
    eigenvalues = session.jacobian(name, row=0, t=(session.config.seq_length - 1) // 2).eigenvalues
    return float(np.max(np.abs(eigenvalues)))


def loss_of_class(session: Session, class_name: str) -> float:
    """Return the mean loss of this batch where the text has a class of characters, such as capitals."""
    shares = {share.name: share for share in session.losses().by_class()}
    if class_name not in shares:
        raise TuiGruError(f"losses knows no class {class_name!r}; the classes are {', '.join(shares)}")
    return float(shares[class_name].mean)


def gradient_reach(session: Session) -> float:
    """Return the number of timesteps that the gradient of row 1 reaches back from the position."""
    return float(session.influence(row=0, occlusion=False).reach().steps)


def say(session: Session, primer: str, length: str = "10", temperature: str = "0", sampler: str = SAMPLERS[0]) -> str:
    """Return what the model says after some characters. The session gets no sample."""
    if not length.isdecimal():
        raise TuiGruError(f"say takes characters, their number, a temperature and a sampler, as in say(Ma, 10, 0), not {length!r}")
    try:
        degree = float(temperature)
    except ValueError:
        raise TuiGruError(f"the temperature of say is a number, not {temperature!r}") from None
    if sampler not in SAMPLERS:
        raise TuiGruError(f"the sampler of say is {' or '.join(SAMPLERS)}, not {sampler!r}")
    return Session(state=session.state).sample(primer, int(length), sampler=sampler, temperature=degree)


RESULTS: Mapping[str, Callable[..., float | str]] = {"keeps": keeps, "losses": loss_of_class, "reach": gradient_reach, "say": say}


class LessonValues:
    """Evaluates expressions on the sessions of a lesson, by the names of its models. `numbers` are those that a lesson keeps.

    `gru: EXPRESSION` and, inside of one, `gru.(EXPRESSION)` read another model than the current one, whose name is `current`.
    `NAME t 2` is a value at timestep 2. All errors are `TuiGruError`.
    """

    def __init__(self, sessions: Mapping[str, Session], current: str) -> None:
        self.sessions, self.current = sessions, current
        self.numbers: dict[str, Any] = {}

    def session(self, model: str = "") -> Session:
        """Return the session of a model, by default the current one."""
        return self.sessions[model or self.current]

    def model_of(self, typed: str, model: str = "") -> tuple[str, str]:
        """Return the model that an expression reads, and the expression without its name."""
        name, colon, rest = typed.partition(":")
        return (name.strip(), rest.strip()) if colon and name.strip() in self.sessions else (model or self.current, typed.strip())

    def value(self, typed: str, model: str = "") -> Any:
        """Return the value of an expression: a number, an array, a truth value or a text. Raises `TuiGruError`."""
        model, typed = self.model_of(typed, model)
        if (result := _RESULT.fullmatch(typed)) is not None:
            return self._result(result, model)
        expression, numbers = self.prepared(typed, model)
        value = self.session(model).calculate(expression, numbers=numbers)
        return self._computed(value, typed, model)

    def prepared(self, typed: str, model: str) -> tuple[str, dict[str, Any]]:
        """Return an expression of the language of conditions, and the values of the names in it that are not of this language."""
        numbers = dict(self.numbers)

        def add(value: Any) -> str:
            name = f"number_{len(numbers)}"
            numbers[name] = value
            return name

        typed = self._other_models(typed, add)
        typed = _RESULT.sub(lambda result: add(self._result(result, model)), typed)

        def at_timestep(match: re.Match[str]) -> str:
            session, t = self.session(model), int(match[2])
            if not 1 <= t <= session.config.seq_length:
                raise TuiGruError(f"{match[0]}: t is 1 to {session.config.seq_length}, the timesteps of a batch")
            return add(self._computed(session.calculate(match[1], t - 1, numbers), match[0], model))

        return _AT_TIMESTEP.sub(at_timestep, typed), numbers

    def _other_models(self, typed: str, add: Callable[[Any], str]) -> str:
        """Replace `gru.(EXPRESSION)` by a name of its value."""
        begins = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, self.sessions))})\.\(")
        while (start := begins.search(typed)) is not None:
            depth, end = 1, start.end()
            while end < len(typed) and depth:
                depth += {"(": 1, ")": -1}.get(typed[end], 0)
                end += 1
            if depth:
                raise TuiGruError(f"{typed[start.start() :]} has no closing parenthesis; write {start[1]}.(EXPRESSION)")
            typed = typed[: start.start()] + add(self.value(typed[start.end() : end - 1], start[1])) + typed[end:]
        return typed

    def _result(self, result: re.Match[str], model: str) -> float | str:
        word, typed = result[1], result[2] if result[2] is not None else result[3]
        parts = [part.strip().strip("“”\"'") for part in (typed.split(",") if result[2] is not None else typed.split())]
        parts = [part for part in parts if part]
        try:
            return RESULTS[word](self.session(model), *parts)
        except TypeError:
            raise TuiGruError(f"{result[0]}: {word} takes other arguments, as in {EXAMPLES[word]}") from None

    def _computed(self, value: Any, typed: str, model: str) -> Any:
        if value is None:
            place = self.session(model).position
            where = f"epoch {place.epoch + 1}, batch {place.batch + 1}, t {place.t + 1}"
            raise TuiGruError(f"{typed} is not computed yet at {where}; go on to its line first, or turn learning on for gradients")
        return value

    def filled(self, words: str) -> str:
        """Return words with `{EXPRESSION}` and `{EXPRESSION | FORM}` replaced by their values.

        The form is % or a number of decimals.
        """

        def written(match: re.Match[str]) -> str:
            typed, _, form = (part.strip() for part in match[1].partition("|"))
            try:
                return number_in_text(self.value(typed), form)
            except TuiGruError as error:
                raise TuiGruError(f"{match[0]}: {error.reason if isinstance(error, TypedError) else error}") from None

        return _INSERTED.sub(written, words)


EXAMPLES = {"keeps": "keeps(h)", "losses": "losses(capitals)", "reach": "reach", "say": "say(Ma, 10, 0, tutorial)"}


def inserted(words: str) -> list[str]:
    """Return the expressions in the braces of a text, without their forms."""
    return [typed.partition("|")[0].strip() for typed in _INSERTED.findall(words)]


def number_in_text(value: Any, form: str = "") -> str:
    """Return a value as a lesson writes it: 1.6710, 5.4e-6, 16.7 % with the form %, 1.67 with the form 2, yes, (0.1 0.2)."""
    if form not in ("", "%") and not form.isdecimal():
        raise TuiGruError(f"{form!r} is no form of a number; write | % or | and the number of decimals")
    if isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    array = np.asarray(value)
    if array.ndim:
        return f"({' '.join(number_in_text(entry, form) for entry in array.ravel().tolist())})"
    return _shown_number(float(array), form).replace("-", "−").replace("e−", "e-")


def _shown_number(number: float, form: str) -> str:
    if not math.isfinite(number):
        return f"{number}"
    if form == "%":
        return f"{significant(100 * number, 3)} %"
    if form:
        return f"{number:.{form}f}"
    if number == int(number) and abs(number) < 1e6:
        return str(int(number))
    if len(few := significant(number, 7)) <= 5 and "e" not in few:
        return few  # 0.01, 2.5: a number that somebody has chosen
    return f"{number:.4f}" if 5e-4 <= abs(number) < 1e4 else significant(number, 2 if abs(number) < 1 else 6)
