"""What can be opened besides a text: files of trained models, recordings, and the modules of a running script.

Only this file of the session knows how they are read. What reads them is imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import Config
from tui_gru.engine.source import Imported
from tui_gru.engine.weights import Array, Weights
from tui_gru.paths import FilePath

if TYPE_CHECKING:
    from torch.nn import Linear, Module

    from tui_gru.capture.calls import GivenCell as GivenCell
    from tui_gru.capture.hooks import Optimizers as Optimizers


def model_on_numbers(
    path: FilePath, name: str | None, convention: Mapping[str, Any], arrays: Mapping[str, Any]
) -> tuple[Imported, str]:
    """Return a run of the layers called `name` of a model file on arrays, and the first message."""
    from tui_gru.imported.files import on_numbers

    return on_numbers(path, name, convention, arrays)


def model_on_text(
    path: FilePath, name: str | None, convention: Mapping[str, Any], reads: Mapping[str, Any], options: dict[str, Any]
) -> tuple[Config, Weights, str]:
    """Return the config of a run of a model file on a text or on token ids, the weights, and the first message.

    `reads` has what the model reads: head, embedding, text, ids, vocabulary, tokens.
    """
    from tui_gru.imported.files import Reads, on_text

    return on_text(path, name, convention, Reads(**reads), options)


def recorded_steps(folder: Path, name: str | None = None, *, follow: bool = False) -> tuple[Imported, str]:
    """Return the run of a recording on the module called `name`, by default the first, and the first message.

    `follow`: for a recording that another process writes, whose newer steps `Imported.newer` reads.
    """
    from tui_gru.imported.captured import followed_run, recorded_run
    from tui_gru.imported.recordings import open_recording

    return followed_run(folder, name) if follow else recorded_run(open_recording(folder), name)


def with_trial(run: Imported, trial: Imported, since: int, owner: object) -> tuple[Imported, int] | None:
    """Return a recording with the steps of a trial in the place of its own, from the step `since` on, and the batch with which they
    begin; None if both are not alike. `owner` lives as long as the batches."""
    from tui_gru.imported import captured

    return captured.join_trial(run, trial, since, owner)


def recording_of(identity: Mapping[str, Any], folder: Path) -> Imported:
    """Return the run of the recording that a saved session is on; `folder` is another one that may hold it."""
    from tui_gru.imported.captured import recognised_run

    return recognised_run(identity, folder)


def is_recording(folder: Path) -> bool:
    """Return True if a folder has a file with a name of a recording."""
    from tui_gru.capture.format import holds_a_recording

    return holds_a_recording(folder)


def newest_step(
    module: Module, optimizer: Optimizers, head: Linear | None, name: str | None, cell: GivenCell | None
) -> tuple[Imported, str] | None:
    """Return the last step of a module of a script as a run of one batch, and the first message; None before the first step."""
    from tui_gru.imported.module import last_run

    return last_run(module, optimizer, head, name, cell)


def output_of(record: BatchRecord) -> Array:
    """Return the output of an imported module in a batch."""
    from tui_gru.imported.recompute import output_name

    return record.array(output_name(record))
