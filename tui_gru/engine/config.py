"""The options of a run, the checks of their values, and its text as tokens of a vocabulary."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, SupportsIndex, TypeAlias, TypedDict, Unpack, get_args

from tui_gru import arguments, errors
from tui_gru.engine.numbers import counted, gib
from tui_gru.equations.page import checked_piece
from tui_gru.errors import TuiGruError
from tui_gru.schema import Positive, Rate, Whole, within

if TYPE_CHECKING:
    from tui_gru.engine.compiled import Compiled
    from tui_gru.engine.model import Model, Structure
    from tui_gru.engine.source import Source

# ------------------------------------------------------------------------------
# Texts and vocabularies: strings of characters, or tuples of tokens that may be longer than a character.


Text: TypeAlias = str | tuple[str, ...]


class Classes(tuple[str, ...]):
    """The names of the classes that are predicted, in the place of a vocabulary, if they are no tokens of a text."""

    __slots__ = ()


def text_of_tokens(tokens: Iterable[str], like: Text) -> Text:
    """Return tokens as a text of the same type as `like`."""
    return "".join(tokens) if isinstance(like, str) else tuple(tokens)


def checked(value: Any, option: str) -> Text:
    """Return a string unchanged, and a sequence of non-empty strings as a tuple. Raises `TuiGruError` for any other value."""
    if isinstance(value, str):
        return value
    if isinstance(value, Set):
        raise TuiGruError(f"{option} must have an order, unlike a {type(value).__name__}; give a string or a list", option=option)
    try:
        tokens = tuple(value)
    except TypeError:
        tokens = (value,)
    for token in tokens:
        if not isinstance(token, str) or not token:
            raise TuiGruError(f"the {option} must be characters or longer tokens, not {errors.shown(token)}", option=option)
    return tokens


def alike(text: Text, vocabulary: Text) -> tuple[Text, Text]:
    """Return text and vocabulary as strings if every token has one character; otherwise as tuples, with the text cut into tokens.
    Raises `TuiGruError` if no token fits at a place in the text."""
    if all(len(token) == 1 for token in (*vocabulary, *text)):
        return "".join(text), "".join(vocabulary)
    vocabulary = tuple(vocabulary)
    return tokenized(text, vocabulary) if isinstance(text, str) else text, vocabulary


def as_string(text: Text, vocabulary: Text) -> str:
    """Return a text as one string. Tokens are separated by spaces, unless a token of the vocabulary contains white space."""
    return text if isinstance(text, str) else separator(vocabulary).join(text)


def tokenized(text: str, vocabulary: Text, option: str = "text") -> Text:
    """Return the tokens of a text that `as_string` joined: at each place the longest token of the vocabulary that fits.

    White space between tokens is skipped if no token has any. Raises `TuiGruError` if no token fits.
    """
    if isinstance(vocabulary, str):
        return text
    token_set, longest, skipped = frozenset(vocabulary), max(map(len, vocabulary), default=1), separator(vocabulary)
    tokens: list[str] = []
    at = 0
    while at < len(text):
        if skipped and text[at].isspace():
            at += 1
            continue
        token = next(
            (text[at : at + n] for n in range(min(longest, len(text) - at), 0, -1) if text[at : at + n] in token_set), None
        )
        if token is None:
            raise TuiGruError(
                f"no token of the vocabulary begins at character {at + 1} of the {option}, {errors.shown(text[at : at + 12])}",
                option=option,
            )
        tokens.append(token)
        at += len(token)
    return tuple(tokens)


def separator(vocabulary: Text) -> str:
    """Return the separator between two tokens of a text as one string."""
    return "" if isinstance(vocabulary, str) or any(map(_has_blank, vocabulary)) else " "


def _has_blank(token: str) -> bool:
    return any(map(str.isspace, token))


def token_word(vocabulary: Text) -> str:
    """Return the word for an entry of a vocabulary, `character`, `token` or `class`."""
    return "character" if isinstance(vocabulary, str) else "class" if isinstance(vocabulary, Classes) else "token"


def index_of(vocabulary: Text) -> dict[str, int]:
    """Return the index of each token."""
    return {token: i for i, token in enumerate(vocabulary)}


LONGEST_FIRST_WORD = 20


def first_word(text: Text) -> Text:
    """Return the first word of a text with the blank after it, as a sample begins; of a text without short words the first two
    characters, and of tokens the first."""
    if not isinstance(text, str):
        return text[:1]
    match = re.match(rf"\s*\S{{1,{LONGEST_FIRST_WORD}}}\s", text)
    return text[:2] if match is None else match[0]


def picked(ids: Iterable[Any], vocabulary: Text) -> Text:
    """Return the tokens with these indices."""
    return text_of_tokens((vocabulary[i] for i in ids), vocabulary)


# ------------------------------------------------------------------------------
# The options of a run.


TUTORIAL_TEXT = "MathMathMathMathMath"
TUTORIAL_VOCABULARY = "hatM"
Carry = Literal["detach", "reset", "notebook"]
Reset = Literal["before", "after"]
Dtype = Literal["float32", "float64"]
Sampler = Literal["fed-back", "tutorial"]
Init = Literal["tutorial", "torch"]
Layout = Literal["tutorial", "contiguous"]
CARRIES: tuple[Carry, ...] = get_args(Carry)
RESETS: tuple[Reset, ...] = get_args(Reset)
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
INITS: tuple[Init, ...] = get_args(Init)
FROM_FILE = "file"  # the initial weights come from a model file, as `tui_gru.load` sets it
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
MOST_LAYERS = 16
#: Defaults for numbers, and for any text but the tutorial's, chosen so that the model learns.
LEARNS = {"optimizer": "adam", "clip": 1.0, "init": "torch", "layout": "contiguous"}
#: All defaults for such a text; a short one has fewer rows and timesteps (`defaults_for_text`).
OWN_TEXT: Mapping[str, Any] = {**LEARNS, "hidden_size": 64, "batch_size": 8, "seq_length": 32}
SHORT_TEXT, ROWS_OF_SHORT_TEXT = 2000, 2  # characters, fewer of which are cut into fewer rows
LEAST_SEQUENCES = 4  # of the usual length in a row; shorter rows are cut evenly, so that at most a fifth of the text is never read
_CELL_OF_RESET = {"before": "gru", "after": "gru-reset-after"}


class RunOptions(TypedDict, total=False):
    """The options of `Config` by keyword, as type checkers read them, without those that `tui_gru.load` takes from a model file."""

    hidden_size: SupportsIndex
    batch_size: SupportsIndex
    seq_length: SupportsIndex
    seed: SupportsIndex
    learning_rate: float
    carry: Carry
    dtype: Dtype
    cell: str
    cell_text: str
    layers: SupportsIndex
    bidirectional: bool
    optimizer: str
    optimizer_text: str
    clip: float
    init: Init
    layout: Layout


class ModelOptions(RunOptions, total=False):
    """All options of `Config` by keyword but the text."""

    reset: Reset
    embedding: SupportsIndex
    head: str
    head_text: str
    loss: str
    loss_text: str


class Options(ModelOptions, total=False):
    """All options of a run by keyword. A text and a vocabulary are strings, or sequences of tokens; `input` and `target`, in their
    place, are arrays or names of .npy files (`engine.data`)."""

    text: str | Sequence[str] | None
    vocabulary: str | Sequence[str] | None
    input: Any
    target: Any


@dataclass(frozen=True)
class Config:
    """The options of a run. Create it with `Config.of`, which checks them and sets the defaults that depend on the text.

    `carry` says how the hidden state passes between the batches of an epoch: `detach` passes the value, `reset` starts each
    batch from zero, `notebook` passes the value and its gradient. `cell` is the name of a built-in cell, or of a file with the
    text `cell_text`; `head`, `loss` and `optimizer` are the same for the head, the loss and the update rule. `reset` chooses
    between two of the built-in cells: the reset gate acts `before` the product with Uh (gru) or `after` it (gru-reset-after, as
    in torch.nn.GRU). `embedding` is the width of an embedding, 0 for one-hot characters; `clip` is the largest norm of the
    gradient, 0 for no limit. `layout` says how the text is cut into rows: as in the tutorial, or `contiguous`, so that each row
    continues where it ended in the batch before. `vocabulary` is a string of characters, or a tuple of tokens that may be
    longer; then `text` is a tuple of such tokens.
    """

    text: Text = TUTORIAL_TEXT
    vocabulary: Text = TUTORIAL_VOCABULARY
    hidden_size: Positive = 2
    batch_size: Positive = 2
    seq_length: Positive = 3
    seed: Annotated[int, within(0, 2**63 - 1)] = 1
    learning_rate: Rate = 0.01
    carry: str = "detach"
    dtype: str = "float32"
    reset: str = "before"
    cell: str = "gru"
    cell_text: str = ""
    layers: Positive = 1
    bidirectional: bool = False
    embedding: Whole = 0
    optimizer: str = "sgd"
    optimizer_text: str = ""
    clip: Rate = 0.0
    init: str = "tutorial"
    layout: str = "tutorial"
    head: str = "linear"
    head_text: str = ""
    loss: str = "cross-entropy"
    loss_text: str = ""

    def __repr__(self) -> str:
        """Return the options that differ from the tutorial's."""
        options = {name: value for name, value in vars(self).items() if name in Config.__dataclass_fields__}
        changed = [f"{name}={errors.shown(value)}" for name, value in options.items() if value != getattr(Config, name)]
        return f"{type(self).__name__}({', '.join(changed)})"

    @classmethod
    def of(
        cls,
        *,
        text: str | Sequence[str] | None = None,
        vocabulary: str | Sequence[str] | None = None,
        **options: Unpack[ModelOptions],
    ) -> Config:
        """Return a checked config; missing options get the defaults for the text.

        The text is a string, or a sequence of tokens; a string is cut into tokens if the vocabulary is a sequence of longer ones.
        Raises a `TuiGruError` that names the option and says what to do.
        """
        text = TUTORIAL_TEXT if text is None else text
        if not isinstance(text, str | list | tuple):
            raise TuiGruError(f"text must be a string, not {type(text).__name__}", option="text")
        text = checked(text, "text")
        if vocabulary is None:
            vocabulary = TUTORIAL_VOCABULARY if text == TUTORIAL_TEXT else sorted(set(text))
        text, vocabulary = alike(text, checked(vocabulary, "vocabulary"))
        defaults = {} if text == TUTORIAL_TEXT else defaults_for_text(len(text), options)
        completed_options = checked_options(options, defaults)
        config = cls(text=text, vocabulary=vocabulary, **completed_options)
        _check_vocabulary(config)
        _check_length(config)
        check_run(config)
        return config

    @property
    def options(self) -> dict[str, Any]:
        """Every option by name, as `with_options` takes it."""
        return {name: getattr(self, name) for name in Config.__dataclass_fields__}

    def with_options(self, options: Mapping[str, Any]) -> Config:
        """Return a checked config on the same text or series with other options. Raises `TuiGruError`."""
        return Config.of(**options)

    @property
    def source(self) -> Source:
        """Where the batches come from, and what can be done with them."""
        from tui_gru.engine.source import REPLAYED

        return REPLAYED

    @cached_property
    def structure(self) -> Structure:
        """The pieces that the model is composed of."""
        from tui_gru.engine.model import Structure

        return Structure(
            cell=self.cell,
            cell_text=self.cell_text,
            layers=self.layers,
            bidirectional=self.bidirectional,
            input="embedding" if self.embedding else "one-hot",
            head=self.head,
            head_text=self.head_text,
            loss=self.loss,
            loss_text=self.loss_text,
            update=self.optimizer,
            update_text=self.optimizer_text,
            clip=self.clip > 0,
        )

    @property
    def model(self) -> Model:
        """The equations of the model."""
        from tui_gru.engine.model import model_of

        return model_of(self.structure)

    @property
    def sizes(self) -> dict[str, int]:
        """The size of each axis: V characters, H units, B rows, T timesteps, D columns of the embedding."""
        sizes = {"V": self.vocab_size, "H": self.hidden_size, "B": self.batch_size, "T": self.seq_length}
        return sizes | ({"D": self.embedding} if self.embedding else {})

    @property
    def compiled(self) -> Compiled:
        """The model compiled for its sizes."""
        from tui_gru.engine.compiled import compiled

        return compiled(self.structure, self.sizes, self.dtype)

    @property
    def settings(self) -> dict[str, float]:
        """The settings of the update rule by name: learning_rate, limit (of the norm of the gradient), beta1 …"""
        options = {"limit": self.clip, "learning_rate": self.learning_rate}
        return {name: options.get(name, value) for name, value in self.model.rule.settings.items()}

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    def as_string(self, text: Text) -> str:
        """Return a part of the text, or another text of this vocabulary, as one string."""
        return as_string(text, self.vocabulary)

    @property
    def shown_vocabulary(self) -> str:
        """The vocabulary as a message quotes it, shortened to 40 characters or 20 tokens."""
        if not isinstance(self.vocabulary, str):
            shown = " ".join(self.vocabulary[:20])
            return repr(shown if self.vocab_size <= 20 and len(shown) <= 80 else shown[:80] + "…")
        return repr(self.vocabulary if self.vocab_size <= 40 else self.vocabulary[:40] + "…")

    @property
    def num_batches(self) -> int:
        """The number of batches in an epoch."""
        return (len(self.text) - 1) // self.seq_length // self.batch_size

    @property
    def learns_at_first(self) -> bool:
        """True if learning is on at the beginning: with new weights, on any text but the tutorial's, where one turns it on."""
        return bool(self.text) and self.text != TUTORIAL_TEXT and self.init != FROM_FILE

    def carried_batches(self, batch: int) -> int:
        """Return how many batches before a batch of the epoch (0-based) its first states depend on; with 0, they are zero."""
        return 0 if self.carry == "reset" else batch

    @property
    def parameter_count(self) -> int:
        """The number of weights of the model."""
        return self.compiled.layout.count

    @property
    def record_bytes(self) -> int:
        """The size of the record of one batch, in bytes."""
        return self.compiled.record_bytes


def defaults_for_text(length: int, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the defaults for a text of `length` tokens, not the tutorial's; `options` are those that have been chosen.

    A short text has fewer rows. If a row would have few sequences, they are cut evenly, so that the rows are read to their ends.
    Raises `TuiGruError` for sizes that are no whole numbers.
    """
    chosen = options or {}
    rows, timesteps = (_CHECKS[name](name, chosen[name]) if name in chosen else None for name in ("batch_size", "seq_length"))
    targets = max(length - 1, 1)
    if rows is None:
        rows = OWN_TEXT["batch_size"] if length >= SHORT_TEXT else ROWS_OF_SHORT_TEXT
        rows = min(rows, max(targets // (timesteps or 1), 1))
    if timesteps is None:
        timesteps, row = OWN_TEXT["seq_length"], max(targets // rows, 1)
        if row < LEAST_SEQUENCES * timesteps:
            timesteps = row // -(-row // timesteps)
    return {**OWN_TEXT, "batch_size": rows, "seq_length": timesteps}


def check_options(options: Iterable[str], *more: str) -> None:
    """Raise `TuiGruError` for an option that is neither one of `Config.of` nor one of `more`."""
    valid = (*Config.__dataclass_fields__, *more)
    if unknown := sorted(set(options).difference(valid)):
        raise TuiGruError(f"unknown option {unknown[0]!r}; there are: {', '.join(valid)}", option=unknown[0])


def checked_options(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return options but the text, checked one by one; `defaults` are in the place of those of `Config`. Raises `TuiGruError`."""
    check_options(options)
    values = {**defaults, **options}
    values |= _cell(values)
    for kind, default in (("head", Config.head), ("loss", Config.loss), ("update", Config.optimizer)):
        values |= checked_piece(kind, values, default)
    return {name: _CHECKS[name](name, value) if name in _CHECKS else value for name, value in values.items()}


def check_run(config: Config) -> None:
    """Raise `TuiGruError` for equations that cannot be read or do not fit each other, or for batches that do not fit into
    memory."""
    _check_model(config)
    check_memory(config)


def _cell(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options `cell`, `cell_text` and `reset`, completed and checked against each other."""
    cell, reset = options.get("cell"), options.get("reset")
    if reset is not None and (not isinstance(reset, str) or reset not in _CELL_OF_RESET):
        if isinstance(reset, str) and reset == "" and cell is not None:
            reset = None
        else:
            raise TuiGruError(f"reset must be one of {', '.join(RESETS)}, not {errors.shown(reset)}", option="reset")
    default = _CELL_OF_RESET[reset or "before"]
    piece = checked_piece("cell", {**options, "cell": default if cell is None else cell}, default)
    cell_reset = next((place for place, name in _CELL_OF_RESET.items() if name == piece["cell"] and not piece["cell_text"]), "")
    if reset is not None and reset != cell_reset:
        raise TuiGruError(
            f"reset {reset} is the cell {_CELL_OF_RESET[reset]}, but the cell is {piece['cell']}; give one of the two",
            option="reset",
        )
    return {**piece, "reset": cell_reset}


def _whole_number(least: int, most: int | None = None) -> Callable[[str, Any], int]:
    return lambda name, value: arguments.integer(name, value, least=least, most=most, option=name)


def _width(least: int) -> Callable[[str, Any], int]:
    # A larger one is refused like the largest, for the memory that it takes; its digits may be too many to be written in code.
    return lambda name, value: min(arguments.integer(name, value, least=least, option=name), arguments.LARGEST)


def _not_negative(name: str, value: Any, option: str | None = None, hint: str = "") -> float:
    """Return the value as a finite float ≥ 0. Raises a `TuiGruError` about `option` for any other value."""
    number = arguments.real_number(name, value, option=option)
    if not math.isfinite(number) or number < 0:
        raise TuiGruError(f"{name} must be finite and not negative, not {number}{hint}", option=option)
    return number


def check_learning_rate(name: str, value: Any) -> float:
    """Return the value as a finite float ≥ 0. Raises `TuiGruError` for any other value."""
    return _not_negative(name, value, name, "; the tutorial's is 0.01")


def check_setting(name: str, value: Any) -> float:
    """Return the value of a setting of the update rule as a finite float ≥ 0; a limit must be positive. Raises `TuiGruError`."""
    if name == "learning_rate":
        return check_learning_rate(name, value)
    number = _not_negative(name, value)
    if name == "limit" and number == 0:
        raise TuiGruError("the limit 0 would make every gradient 0; a large limit, such as 1e9, turns clipping off")
    return number


def _one_of(choices: tuple[str, ...]) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise TuiGruError(f"{name} must be one of {', '.join(choices)}, not {errors.shown(value)}", option=name)
        return str(value)

    return check


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "hidden_size": _width(1),
    "batch_size": _whole_number(1),
    "seq_length": _whole_number(1),
    "seed": _whole_number(0, arguments.LARGEST),
    "learning_rate": check_learning_rate,
    "carry": _one_of(CARRIES),
    "dtype": _one_of(DTYPES),
    "layers": _whole_number(1, MOST_LAYERS),
    "bidirectional": lambda name, value: arguments.boolean(name, value, option=name),
    "embedding": _width(0),
    "clip": lambda name, value: _not_negative(name, value, name, "; 0 turns it off"),
    "init": _one_of((*INITS, FROM_FILE)),
    "layout": _one_of(LAYOUTS),
}


def _check_vocabulary(config: Config) -> None:
    if not config.text:
        words = f"it needs at least {errors.shown(_shortest_text(config))} {token_word(config.vocabulary)}s"
        raise TuiGruError(f"the text is empty; {words}", option="text")
    indices: dict[str, int] = {}
    for index, char in enumerate(config.vocabulary):
        if char in indices:
            raise TuiGruError(
                f"the vocabulary has {char!r} twice, at {indices[char] + 1} and {index + 1}; remove one",
                option="vocabulary",
            )
        indices[char] = index
    for index, char in enumerate(config.text):
        if char not in indices:
            raise TuiGruError(
                f"{token_word(config.vocabulary)} {char!r} at position {index + 1} of the text is not in the vocabulary "
                f"{config.shown_vocabulary}; "
                "add it to the vocabulary or change the text",
                option="vocabulary",
            )


def _shortest_text(config: Config) -> int:
    return config.batch_size * config.seq_length + 1


def _check_length(config: Config) -> None:
    if len(config.text) < _shortest_text(config):
        rows, timesteps, least = map(errors.shown, (config.batch_size, config.seq_length, _shortest_text(config)))
        has = counted(len(config.text), token_word(config.vocabulary))
        raise TuiGruError(
            f"the text has {has}; {rows} rows of {timesteps} timesteps need {least} "
            "(batch_size x seq_length + 1): use a longer text or smaller sizes",
            option="text",
        )


def _check_model(config: Config) -> None:
    """Raise `TuiGruError` for equations that cannot be read or do not fit each other."""
    _ = config.model
    if config.carry == "notebook" and config.bidirectional:
        raise TuiGruError(
            "carry notebook continues the gradient into earlier batches, which a bidirectional model does not support; "
            "use carry detach or reset",
            option="carry",
        )


_SIZES = ("hidden_size", "embedding", "batch_size", "seq_length")


def check_memory(config: Config) -> None:
    """Raise `TuiGruError` for a config whose records would not fit into half of this machine's memory."""
    records = config.num_batches if config.carry == "notebook" else 1
    size = min(config.record_bytes * records, 2**200)  # a larger int could not be converted to float
    limit = machine_memory() // 2
    if size > limit:
        sizes = {name: getattr(config, name) // max(getattr(Config, name), 1) for name in _SIZES if getattr(config, name)}
        *others, last = sizes
        raise TuiGruError(
            f"this model would take {gib(size)}, more than half of this machine's memory; "
            f"use a smaller {', '.join(others)} or {last}"
            + (", or another carry than notebook, which keeps a whole epoch" if records > 1 else ""),
            option="carry" if config.record_bytes <= limit else max(sizes, key=sizes.__getitem__),
        )


def machine_memory() -> int:
    """Return the machine's memory in bytes; 8 GiB if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return _windows_memory() or 8 * 2**30


def _windows_memory() -> int:
    """Return the memory of a machine with Windows in bytes; 0 if the system does not report it, or is another one."""
    from ctypes import Structure, byref, c_uint32, c_uint64, sizeof

    class Status(Structure):  # MEMORYSTATUSEX
        _fields_ = (("length", c_uint32), ("load", c_uint32), *((name, c_uint64) for name in ("total", *"abcdef")))

    status = Status()
    status.length = sizeof(Status)
    try:
        from ctypes import windll  # type: ignore[attr-defined]

        return int(status.total) if windll.kernel32.GlobalMemoryStatusEx(byref(status)) else 0
    except (ImportError, AttributeError, OSError):
        return 0
