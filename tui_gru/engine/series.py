"""Series of numbers with their targets, from arrays or .npy files, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tui_gru import errors as arguments
from tui_gru.engine.config import Config, check_options
from tui_gru.engine.data import SeriesConfig
from tui_gru.engine.source import Series
from tui_gru.errors import TuiGruError

#: The most classes of a target: a larger whole number is taken for another mistake.
MOST_CLASSES = 100_000


def config_from(options: Mapping[str, Any]) -> Config:
    """Return the checked config of a run: on `input` and `target`, or on a text. Raises `TuiGruError`."""
    known = dict(options)
    given = {name: known.pop(name) for name in ("input", "target") if known.get(name) is not None}
    known = {name: value for name, value in known.items() if name not in ("input", "target")}
    if not given:
        return Config.of(**known)
    for name, other in (("input", "target"), ("target", "input")):
        if name not in given:
            raise TuiGruError(f"{other} is given without {name}; give both, as arrays or .npy files", option=other)
    for name in ("text", "vocabulary"):
        if known.pop(name, None) is not None:
            raise TuiGruError(
                f"{name} belongs to a text, but the run reads numbers; leave out {name}, or input and target", option=name
            )
    check_options(known, "input", "target")
    return SeriesConfig.of_series(series_of(given["input"], given["target"], known.get("dtype", Config.dtype)), **known)


def series_of(inputs: Any, targets: Any, dtype: str = Config.dtype) -> Series:
    """Return checked series from arrays or names of .npy files.

    `inputs` are (time, features), one series; (rows, time, features), several; or (time), one series of one number. `targets` have
    the same first axes: numbers with one more axis for several outputs, or whole numbers, which are classes counted from 0. Raises
    a `TuiGruError` about `input` or `target` for other shapes or types, for numbers that are not finite, and for those that the
    `dtype` of the run cannot hold.
    """
    from tui_gru.files.tensors import array_of  # only a run on numbers needs it

    x, y = array_of(inputs, "input"), array_of(targets, "target")
    if not 1 <= x.ndim <= 3:
        raise TuiGruError(
            f"the input has the shape {x.shape}; give (time, features) for one series, or (rows, time, features) for several",
            option="input",
        )
    x = x[:, None] if x.ndim == 1 else x
    if not x.size:
        raise TuiGruError(
            f"the input has the shape {x.shape}, so it is empty; give at least one timestep of a number", option="input"
        )
    first = x.shape[:-1]
    if y.shape[: len(first)] != first or y.ndim - len(first) not in (0, 1) or not y.size:
        turned = y.ndim >= 2 and len(first) == 2 and y.shape[:2] == first[::-1]
        axes = ", ".join(map(str, first))
        hint = "; swap its first two axes" if turned else ""
        raise TuiGruError(
            f"the target has the shape {y.shape}, but the input has {x.shape}; give one target for each timestep, "
            f"({axes},) or ({axes}, outputs){hint}",
            option="target",
        )
    is_class = y.dtype.kind in "iub" and y.ndim == len(first)
    _check_finite(x, "input", dtype)
    if is_class:
        _check_classes(y)
    else:
        _check_finite(y, "target", dtype)
        y = y[..., None] if y.ndim == len(first) else y
    x, y = (array[None] if len(first) == 1 else array for array in (x, y))
    numbers = y.astype(np.intp) if is_class else _stored(y)
    numbers.setflags(write=False)
    own = _stored(x)
    own.setflags(write=False)
    return Series(own, numbers, int(y.max()) + 1 if is_class else 0)


def _stored(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy in float32 or float64."""
    return array.astype(np.float32 if array.dtype in (np.float16, np.float32) else np.float64)


def _check_finite(array: NDArray[Any], name: str, dtype: str) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        wrong = ~np.isfinite(array.astype(dtype if dtype in ("float32", "float64") else "float64"))
    if not wrong.any():
        return
    place = np.unravel_index(int(np.argmax(wrong)), array.shape)
    value = array[place]
    where = f"{name}[{', '.join(map(str, place))}]"
    count = int(wrong.sum())
    more = f", and {count - 1:,} more" if count > 1 else ""
    if np.isfinite(value):
        raise TuiGruError(f"{where} is {value:g}{more}, too large for {dtype}; use dtype float64, or smaller numbers", option=name)
    raise TuiGruError(f"{where} is {value:g}{more}; give finite numbers only", option=name)


def _check_classes(array: NDArray[Any]) -> None:
    for wrong, words in (
        (array < 0, "classes are whole numbers from 0"),
        (array >= MOST_CLASSES, f"there can be {MOST_CLASSES:,} classes; convert numbers to float"),
    ):
        if wrong.any():
            place = np.unravel_index(int(np.argmax(wrong)), array.shape)
            where = ", ".join(map(str, place))
            raise TuiGruError(f"target[{where}] is {arguments.shown(int(array[place]))}; {words}", option="target")


def has_numbers(config: Config, options: Mapping[str, Any]) -> bool:
    """Return True if `input` and `target` of these options are the numbers of a run. Raises `TuiGruError` if they are invalid."""
    if not isinstance(config, SeriesConfig) or not {"input", "target"} <= options.keys():
        return False
    other = series_of(options["input"], options["target"], config.dtype)
    return np.array_equal(other.inputs, config.series.inputs) and np.array_equal(other.targets, config.series.targets)
