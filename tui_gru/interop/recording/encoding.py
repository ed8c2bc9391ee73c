"""Encoding of a captured step as named arrays and a JSON object, and decoding with full validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tui_gru.interop.capture.calls import CapturedStep, GRUCall, GRUModule, HeadCall, Note, WeightSet
from tui_gru.interop.errors import ModelFileError, printable
from tui_gru.interop.tensors import AnyArray, Tensor

_CALL = ("dtype", "autocast", "h0_given", "h0_attached", "training", "backward_passes")
_STEP = ("number", "updated", "rank", "ranks", "not_kept")


def encoded(step: CapturedStep) -> tuple[dict[str, AnyArray], dict[str, Any]]:
    """Return the arrays of a step by name, `calls.0.x`, and a JSON object with the rest."""
    arrays: dict[str, AnyArray] = {}
    modules, sets = list[GRUModule](), list[WeightSet]()
    calls = []
    for i, call in enumerate(step.calls):
        if call.module not in modules:
            modules.append(call.module)
        if not any(call.weights is known for known in sets):
            sets.append(call.weights)
        parts = {name: getattr(call, name) for name in ("x", "h0", "out", "hn", "dout", "dhn", "lengths")}
        parts |= {f"mask_l{k}": mask for k, mask in enumerate(call.masks)}
        if (head := call.head) is not None:
            parts |= {f"head.{name}": getattr(head, name) for name in ("logits", "dlogits", "weight", "bias")}
        arrays |= {f"calls.{i}.{name}": array for name, array in parts.items() if array is not None}
        about = {name: getattr(call, name) for name in _CALL}
        at = next(k for k, known in enumerate(sets) if known is call.weights)
        about |= {"module": modules.index(call.module), "weights": at, "notes": call.notes, "head": head.name if head else None}
        calls.append(about)
    for i, used in enumerate(sets):
        arrays |= {f"weights.{i}.{name}": array for name, array in used.values.items()}
        arrays |= {f"weights.{i}.gradients.{name}": array for name, array in used.gradients.items()}
    arrays |= {f"gradients.{name}": array for name, array in step.gradients.items()}
    arrays |= {f"before.{name}": array for name, array in step.before.items()}
    about = {name: getattr(step, name) for name in _STEP}
    about |= {"loss": plain(step.loss), "settings": {name: plain(value) for name, value in step.settings.items()}}
    about |= {"notes": step.notes, "modules": [asdict(module) for module in modules], "calls": calls}
    about["weights"] = [{"module": modules.index(used.module), "parameters": dict(used.parameters)} for used in sets]
    return arrays, about


def plain(value: float | None) -> float | str | None:
    """Return a number for JSON; NaN and infinities become strings."""
    return value if value is None or math.isfinite(value) else str(value)


def number(value: Any) -> float | None:
    """Return the number that `plain` encoded. Raises `ModelFileError`."""
    if value is None:
        return None
    if type(value) in (int, float) or value in ("nan", "inf", "-inf"):
        return float(value)
    raise ModelFileError(f"{printable(value, 40)} is not a number; the file is damaged")


def decoded(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> CapturedStep:
    """Return the step. Raises `ModelFileError` if an entry is missing or does not fit."""
    try:
        return _Decoder(tensors, about).step()
    except ModelFileError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise ModelFileError(f"its description of the calls is damaged ({type(error).__name__}: {printable(error, 60)})") from None


class _Decoder:
    def __init__(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        self._tensors, self._about = tensors, about
        self._modules = [module_of(entry) for entry in _list(about["modules"])]
        self._sets = [self._weights(i, entry) for i, entry in enumerate(_list(about["weights"]))]

    def step(self) -> CapturedStep:
        about = self._about
        return CapturedStep(
            _whole(about["number"]),
            tuple(self._call(i, entry) for i, entry in enumerate(_list(about["calls"]))),
            self._named("gradients."),
            self._named("before."),
            number(about["loss"]),
            bool(about["updated"]),
            {str(name): number(value) or 0.0 for name, value in about["settings"].items()},
            _whole(about["rank"]),
            _whole(about["ranks"]),
            _whole(about["not_kept"]),
            _notes(about["notes"]),
        )

    def _call(self, i: int, about: Mapping[str, Any]) -> GRUCall:
        module, weights = _item(self._modules, about["module"]), _item(self._sets, about["weights"])
        if weights.module is not module:
            raise ModelFileError(f"call {i} uses the weights of another module; the file is damaged")
        prefix = f"calls.{i}."
        shape = self._tensors[f"{prefix}x"].shape
        if len(shape) != 3:
            raise ModelFileError(f"the input of call {i} has the shape {shape}, not (timesteps, rows, numbers)")
        T, B = shape[:2]
        width, states = module.directions * module.hidden_size, module.layers * module.directions
        read = self._reader(prefix)
        lengths = read("lengths", (B,), True)
        if lengths is not None and ((lengths < 0) | (lengths > T)).any():
            raise ModelFileError(f"call {i} has a row that is longer than the call; the file is damaged")
        drawn = [read(f"mask_l{k}", (T, B, width), True) for k in range(module.layers - 1)]
        masks = tuple(mask for mask in drawn if mask is not None)
        if len(masks) not in (0, len(drawn)):
            raise ModelFileError(f"call {i} has masks for some of its layers only; the file is damaged")
        return GRUCall(
            module,
            i,
            _there(read("x", (T, B, module.input_size))),
            _there(read("h0", (states, B, module.hidden_size))),
            _there(read("out", (T, B, width))),
            _there(read("hn", (states, B, module.hidden_size))),
            weights,
            read("dout", (T, B, width), True),
            read("dhn", (states, B, module.hidden_size), True),
            lengths,
            masks,
            self._head(f"{prefix}head.", about["head"], (T, B, width)),
            str(about["dtype"]),
            str(about["autocast"]),
            bool(about["h0_given"]),
            bool(about["h0_attached"]),
            bool(about["training"]),
            _whole(about["backward_passes"]),
            _notes(about["notes"]),
        )

    def _head(self, prefix: str, name: Any, shape: tuple[int, int, int]) -> HeadCall | None:
        if name is None:
            return None
        read, classes = self._reader(prefix), self._tensors[f"{prefix}weight"].shape[0]
        logits = (*shape[:2], classes)
        weight = _there(read("weight", (classes, shape[2])))
        return HeadCall(
            printable(name), _there(read("logits", logits)), read("dlogits", logits, True), weight, read("bias", (classes,), True)
        )

    def _weights(self, i: int, about: Mapping[str, Any]) -> WeightSet:
        module = _item(self._modules, about["module"])
        prefix = f"weights.{i}."
        shapes = weight_shapes(module)
        read, gradient = self._reader(prefix), self._reader(f"{prefix}gradients.")
        values = {name: _there(read(name, shape)) for name, shape in shapes.items()}
        gradients = {name: array for name, shape in shapes.items() if (array := gradient(name, shape, True)) is not None}
        parameters = {str(name): str(parameter) for name, parameter in about["parameters"].items() if name in shapes}
        for weight, parameter in parameters.items():
            for kind in ("gradients.", "before."):
                tensor = self._tensors.get(kind + parameter)
                if tensor is not None and tensor.shape != shapes[weight]:
                    raise ModelFileError(f"{printable(kind + parameter)} has the shape {tensor.shape}, not {shapes[weight]}")
        return WeightSet(module, values, parameters, gradients)

    def _named(self, prefix: str) -> dict[str, AnyArray]:
        return {name.removeprefix(prefix): tensor.read() for name, tensor in self._tensors.items() if name.startswith(prefix)}

    def _reader(self, prefix: str) -> Callable[..., AnyArray | None]:
        def read(name: str, shape: tuple[int, ...], optional: bool = False) -> AnyArray | None:
            tensor = self._tensors.get(prefix + name)
            if tensor is None and optional:
                return None
            if tensor is None or tensor.shape != shape:
                found = "is missing" if tensor is None else f"has the shape {tensor.shape}, not {shape}"
                raise ModelFileError(f"{printable(prefix + name)} {found}; the file is damaged")
            return tensor.read()

        return read


def module_of(entry: Mapping[str, Any]) -> GRUModule:
    """Return a module as JSON describes it. Raises `ModelFileError` if the description is invalid."""
    sizes = {name: _whole(entry[name]) for name in ("input_size", "hidden_size", "layers")}
    flags = {name: bool(entry[name]) for name in ("bidirectional", "bias", "batch_first")}
    most = {"GRU": (1000, True), "GRUCell": (1, False)}.get(entry["kind"])
    fits = most is not None and sizes["layers"] <= most[0] and flags["bidirectional"] <= most[1]
    if not fits or not all(1 <= size < 2**31 for size in sizes.values()):
        raise ModelFileError(f"{printable(entry.get('name'))} has an impossible description; the file is damaged")
    return GRUModule(name=printable(entry["name"]), kind=entry["kind"], dropout=number(entry["dropout"]) or 0.0, **sizes, **flags)  # type: ignore[arg-type]


def weight_shapes(module: GRUModule) -> dict[str, tuple[int, ...]]:
    """Return the shapes of torch's weights, by torch's names."""
    H, shapes = module.hidden_size, dict[str, tuple[int, ...]]()
    for i, suffix in enumerate(module.suffixes):
        width = module.input_size if i < module.directions else module.directions * H
        rows = {"weight_ih": (3 * H, width), "weight_hh": (3 * H, H), "bias_ih": (3 * H,), "bias_hh": (3 * H,)}
        shapes |= {role + suffix: shape for role, shape in rows.items()}
    return {name: shapes[name] for name in module.weight_names}


def _there(array: AnyArray | None) -> AnyArray:
    assert array is not None
    return array


def _list(value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise ModelFileError("a list is expected and missing; the file is damaged")
    return value


def _item(items: Sequence[Any], at: Any) -> Any:
    return items[_whole(at)]


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ModelFileError(f"{printable(value, 40)} is not a whole number; the file is damaged")
    return value


def _notes(value: Any) -> tuple[Note, ...]:
    known = {str(note) for note in Note}
    return tuple(Note(note) for note in _list(value) if note in known)  # a later version may have more notes
