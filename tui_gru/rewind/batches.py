"""Batches as they were given to a step: what they contain, and their tensors without a copy unless the body changes them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from tui_gru.rewind.states import version_of

_DEEPEST = 12


def copied_batch(batch: Any, *, tensors: bool, depth: int = 0) -> Any:
    """Return a batch with containers and arrays of its own, and with `tensors` tensors of its own as well."""
    if isinstance(batch, torch.Tensor):
        return _copied_tensor(batch) if tensors else batch
    if isinstance(batch, np.ndarray):
        return batch.copy() if type(batch) is np.ndarray and not batch.dtype.hasobject else batch
    if batch is None or isinstance(batch, (bool, int, float, complex, str, bytes, type)) or depth > _DEEPEST:
        return batch
    kind = type(batch)
    if kind in (list, tuple):
        return kind([copied_batch(part, tensors=tensors, depth=depth + 1) for part in batch])
    if kind is dict:
        return {key: copied_batch(value, tensors=tensors, depth=depth + 1) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields") and not isinstance(batch, torch.nn.utils.rnn.PackedSequence):
        return kind(*[copied_batch(part, tensors=tensors, depth=depth + 1) for part in batch])
    if isinstance(batch, torch.nn.utils.rnn.PackedSequence):
        return torch.nn.utils.rnn.PackedSequence(
            *[_copied_tensor(part) if tensors and part is not None else part for part in batch]
        )
    attributes = getattr(batch, "__dict__", None)
    if not isinstance(attributes, dict) or isinstance(batch, torch.nn.Module) or callable(batch):
        return batch
    try:
        other = copy.copy(batch)
        for name, value in vars(other).items():
            vars(other)[name] = copied_batch(value, tensors=tensors, depth=depth + 1)
    except Exception:  # an object that cannot be copied is given as it is
        return batch
    return other


def _copied_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy with the same strides, since these can decide how something is computed; the tensor itself if it has none
    of its own."""
    if not tensor.is_leaf or tensor.layout is not torch.strided or tensor.is_inference() or type(tensor) is not torch.Tensor:
        return tensor
    other = tensor.detach().clone()
    if other.stride() != tensor.stride():
        other = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)
        if 0 in tensor.stride():
            return tensor
        other.copy_(tensor.detach())
    return other.requires_grad_(tensor.requires_grad)


def batch_tensors(batch: Any, depth: int = 0) -> Iterator[torch.Tensor]:
    """Yield the tensors in a batch."""
    if isinstance(batch, torch.Tensor):
        yield batch
    elif depth <= _DEEPEST and not isinstance(batch, (str, bytes, int, float)) and batch is not None:
        if isinstance(batch, (list, tuple)):
            parts: Any = batch
        elif isinstance(batch, Mapping):
            parts = batch.values()
        else:
            attributes = getattr(batch, "__dict__", None)
            is_object = isinstance(attributes, dict) and not callable(batch)
            parts = list(attributes.values()) if is_object and attributes is not None else ()
        for part in parts:
            yield from batch_tensors(part, depth + 1)


def versions_of(batch: Any) -> list[tuple[torch.Tensor, int]]:
    """Return the tensors of a batch with the number of changes in place."""
    return [(tensor, version_of(tensor)) for tensor in batch_tensors(batch)]


def bytes_of(batch: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in batch_tensors(batch))
