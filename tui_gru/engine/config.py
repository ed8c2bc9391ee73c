"""What is trained, and how: every option of a run, checked."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from tui_gru.engine import arguments
from tui_gru.engine.errors import TuiGruError

TUTORIAL_TEXT = "MathMathMathMathMath"
TUTORIAL_VOCABULARY = "hatM"
CARRIES = ("detach", "reset", "notebook")
RESETS = ("before", "after")
DTYPES = ("float32", "float64")
SAMPLERS = ("fed-back", "tutorial")


@dataclass(frozen=True)
class Config:
    """Every option of a run. Make one with `Config.of`, which checks it and fills in the vocabulary.

    `carry` says what becomes of the hidden state between the batches of an epoch: `detach` hands it on by value, `reset`
    starts each batch from zero, `notebook` hands it on with its gradient. `reset` says whether the reset gate acts on the
    state `before` the product with Uh (the tutorial, Keras reset_after=False) or `after` it (torch.nn.GRU).
    """

    text: str = TUTORIAL_TEXT
    vocabulary: str = TUTORIAL_VOCABULARY
    hidden_size: int = 2
    batch_size: int = 2
    seq_length: int = 3
    seed: int = 1
    learning_rate: float = 0.01
    carry: str = "detach"
    dtype: str = "float32"
    reset: str = "before"

    @classmethod
    def of(cls, *, text: str | None = None, vocabulary: str | None = None, **options: Any) -> Config:
        """A checked config; what is not given is the tutorial's. Raises `TuiGruError` naming the option and the cure."""
        text = TUTORIAL_TEXT if text is None else text
        if not isinstance(text, str):
            raise TuiGruError(f"text must be a string, not {type(text).__name__}", option="text")
        if vocabulary is None:
            vocabulary = TUTORIAL_VOCABULARY if text == TUTORIAL_TEXT else "".join(sorted(set(text)))
        elif not isinstance(vocabulary, str):
            vocabulary = _joined(vocabulary)
        known = {name: value for name, value in options.items() if name in cls.__dataclass_fields__}
        if unknown := sorted(set(options) - set(known)):
            raise TuiGruError(f"unknown option {unknown[0]!r}; there are: {', '.join(cls.__dataclass_fields__)}", option=unknown[0])
        config = cls(text=text, vocabulary=vocabulary, **known)
        config = cls(**{name: _CHECKS.get(name, _same)(name, value) for name, value in asdict(config).items()})
        _check_vocabulary(config)
        _check_length(config)
        _check_memory(config)
        return config

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    @property
    def shown_vocabulary(self) -> str:
        """The vocabulary, quoted, for a message of one line: a long one is cut."""
        shown = self.vocabulary if self.vocab_size <= 40 else self.vocabulary[:40] + "…"
        return repr(shown)

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        return (len(self.text) - 1) // self.seq_length // self.batch_size

    @property
    def parameter_count(self) -> int:
        V, H = self.vocab_size, self.hidden_size
        return 3 * (V * H + H * H + H) + H * V + V + (3 * H if self.reset == "after" else 0)

    @property
    def record_bytes(self) -> int:
        """Memory of one batch with everything that is computed in it, bytes."""
        itemsize = 8 if self.dtype == "float64" else 4
        per_row = 7 * self.vocab_size + 31 * self.hidden_size
        return itemsize * (self.seq_length * self.batch_size * per_row + 3 * self.parameter_count)


def _same(name: str, value: Any) -> Any:
    return value


def _joined(vocabulary: Any) -> str:
    """A vocabulary given as a sequence of characters."""
    try:
        chars = list(vocabulary)
    except TypeError:
        chars = [vocabulary]
    for char in chars:
        if not isinstance(char, str) or len(char) != 1:
            raise TuiGruError(f"the vocabulary must be characters, not {arguments.shown(char)}", option="vocabulary")
    return "".join(chars)


def _positive(name: str, value: Any) -> int:
    return arguments.whole(name, value, least=1, option=name)


def _seed(name: str, value: Any) -> int:
    return arguments.whole(name, value, least=0, most=arguments.LARGEST, option=name)


def check_learning_rate(name: str, value: Any) -> float:
    """`value` as a finite rate ≥ 0, or `TuiGruError`."""
    rate = arguments.number(name, value, option=name)
    if not math.isfinite(rate) or rate < 0:
        raise TuiGruError(f"{name} must be finite and not negative, not {rate}; the tutorial's is 0.01", option=name)
    return rate


def _one_of(choices: tuple[str, ...]) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise TuiGruError(f"{name} must be one of {', '.join(choices)}, not {arguments.shown(value)}", option=name)
        return str(value)

    return check


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "hidden_size": _positive,
    "batch_size": _positive,
    "seq_length": _positive,
    "seed": _seed,
    "learning_rate": check_learning_rate,
    "carry": _one_of(CARRIES),
    "dtype": _one_of(DTYPES),
    "reset": _one_of(RESETS),
}


def _check_vocabulary(config: Config) -> None:
    if not config.text:
        raise TuiGruError(f"the text is empty; it needs at least {arguments.shown(_needed(config))} characters", option="text")
    seen: dict[str, int] = {}
    for index, char in enumerate(config.vocabulary):
        if char in seen:
            raise TuiGruError(
                f"the vocabulary has {char!r} twice, at {seen[char] + 1} and {index + 1}; remove one",
                option="vocabulary",
            )
        seen[char] = index
    for index, char in enumerate(config.text):
        if char not in seen:
            raise TuiGruError(
                f"character {char!r} at position {index + 1} of the text is not in the vocabulary {config.shown_vocabulary}; "
                "add it to the vocabulary or change the text",
                option="vocabulary",
            )


def _needed(config: Config) -> int:
    return config.batch_size * config.seq_length + 1


def _check_length(config: Config) -> None:
    if len(config.text) < _needed(config):
        rows, timesteps, needed = map(arguments.shown, (config.batch_size, config.seq_length, _needed(config)))
        raise TuiGruError(
            f"the text has {len(config.text)} characters; {rows} rows of {timesteps} timesteps need {needed} "
            "(batch_size x seq_length + 1): use a longer text or smaller sizes",
            option="text",
        )


def _check_memory(config: Config) -> None:
    records = config.num_batches if config.carry == "notebook" else 1
    needed = min(config.record_bytes * records, 2**200)  # beyond which it is none of a float's numbers
    limit = machine_memory() // 2
    if needed > limit:
        option = "carry" if config.record_bytes <= limit else "hidden_size"
        raise TuiGruError(
            f"this model would take {needed / 2**30:,.1f} GiB, more than half of this machine's memory; "
            "use a smaller hidden size, batch size or sequence length"
            + (", or another carry than notebook, which keeps a whole epoch" if records > 1 else ""),
            option=option,
        )


def machine_memory() -> int:
    """The machine's memory, bytes; 8 GiB where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30
