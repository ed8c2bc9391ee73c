"""`tui_gru.inspect`: lists the recurrent layers in a file; and the table of all formats."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

from tui_gru.capture.format import holds_a_recording
from tui_gru.equations.functions import Gate
from tui_gru.errors import ModelFileError, printable
from tui_gru.files import keras, onnx
from tui_gru.files import tensors as npz
from tui_gru.files import tensors as safetensors
from tui_gru.files import torch as torch_checkpoint
from tui_gru.files.arrays import (
    HARMLESS_SIZE,
    HEAD_SIZE,
    MOST_RATIO,
    FileFormat,
    FileLayers,
    FoundGRU,
    OpenedFile,
    open_file,
)
from tui_gru.files.kinds import ResetPlace, ZMeaning, checked_convention
from tui_gru.files.matching import find_by_name
from tui_gru.files.torch import SAVE_STATE_DICT

# ------------------------------------------------------------------------------
# The table of file formats: those that are read, and those that are recognised but not supported, with what to do instead.
#
# The first format that fits a file reads it.


TORCH_BEFORE_1_6 = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."


def _refused(name: str, fits: Callable[[OpenedFile], bool], cure: str) -> FileFormat:
    def find(file: OpenedFile, order: str | None) -> NoReturn:
        raise ModelFileError(f"it is {name}, which is not supported; {cure}")

    return FileFormat(name, fits, find)


def _starts(*starts: bytes, at: int = 0) -> Callable[[OpenedFile], bool]:
    return lambda file: file.head[at:].startswith(starts)


def _has_member(ending: str) -> Callable[[OpenedFile], bool]:
    return lambda file: any(name.endswith(ending) for name in file.members)


GZIP = b"\x1f\x8b"
MOST_MEMBERS = 10_000  # of a tar archive
FLATTEN = 'save flatten_dict(params, sep="/") as safetensors or with np.savez'
#: The words in a pickle that show what is in it, and what to do instead; the first that fits.
PICKLES = {
    "torch": ((b"torch",), SAVE_STATE_DICT),
    "JAX": ((b"jax", b"flax", b"haiku"), FLATTEN),
    "NumPy": ((b"numpy",), "load it in the program that made it, and save its arrays by name with np.savez"),
}
#: How pickles begin: with the number of their protocol, or, of the first two protocols, with a container or an array.
_PICKLES = (
    *(b"\x80" + bytes([version]) for version in range(2, 6)),
    *(b"(dp0\n", b"(dp1\n", b"(lp0\n", b"(lp1\n", b"(cnumpy", b"cnumpy", b"ccopy_reg", b"}q\x00", b"]q\x00"),
)


def _pickle_with(*words: bytes) -> Callable[[OpenedFile], bool]:
    """Return what is True for a pickle with one of some words near its beginning; for any if there are none."""
    return lambda file: file.head.startswith(_PICKLES) and (not words or any(word in _first(file) for word in words))


def _first(file: OpenedFile) -> bytes:
    with file.path.open("rb") as opened:
        return opened.read(1 << 16)


_FOLDERS: dict[tuple[str, int, int], tempfile.TemporaryDirectory[str]] = {}  # until the process ends; they are deleted then


def unpacked(file: OpenedFile) -> dict[str, OpenedFile]:
    """Return the files in a tar archive by name, unpacked into a folder of this process, where their names are not used as paths.

    Raises `ModelFileError` if it is damaged, or larger than a model is.
    """
    status = file.path.stat()
    key = os.path.abspath(file.path), status.st_size, status.st_mtime_ns
    if key not in _FOLDERS:
        _FOLDERS[key] = tempfile.TemporaryDirectory(prefix="tui-gru-")
    folder, files = Path(_FOLDERS[key].name), dict[str, OpenedFile]()
    left = min(max(HARMLESS_SIZE, MOST_RATIO * status.st_size), shutil.disk_usage(folder).free)
    try:
        with tarfile.open(file.path, "r:gz" if file.head.startswith(GZIP) else "r:") as archive:
            for number, member in enumerate(archive):
                path = folder / str(number)
                left -= member.size
                if left < 0 or number >= MOST_MEMBERS:
                    raise ModelFileError("what is in the archive is larger than a model; unpack the model file in it and open that")
                if not member.isfile() or not member.size:
                    continue
                if not path.exists() or path.stat().st_size != member.size:
                    with archive.extractfile(member) as source, path.open("wb") as target:  # type: ignore[union-attr]
                        shutil.copyfileobj(source, target)
                files[printable(member.name)] = open_file(path)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile):
        raise ModelFileError("its tar archive is damaged or cut off; get the file again") from None
    return files


def _find_in_tar(file: OpenedFile, order: str | None) -> FileLayers:
    """Find the layers in all files of an archive. Their names begin with the name of their file, if several files have layers."""
    parts, refused = dict[str, tuple[FoundGRU, ...]](), list[str]()
    for name, part in unpacked(file).items():
        format_ = next((format_ for format_ in FORMATS if format_.fits(part)), None)
        if format_ is None:
            continue
        try:
            layers_of_file = format_.find(part, order)
        except ModelFileError as error:
            refused.append(f"{name}: {error}")
            continue
        parts |= {name: layers_of_file.layers} if layers_of_file.layers else {}
        refused += (f"{name}: {line}" for line in layers_of_file.refused)
    layers_of_all = [
        replace(layers, name=f"{name}:{layers.name}" if len(parts) > 1 else layers.name, path=file.path)
        for name, part in parts.items()
        for layers in part
    ]
    return FileLayers(
        tuple(layers_of_all), tuple(refused) or (() if layers_of_all else ("no file in the archive has a format that is read",))
    )


def is_tar(file: OpenedFile) -> bool:
    """Return True for a tar archive, also compressed with gzip."""
    head = file.head
    if head.startswith(GZIP):
        with suppress(zlib.error):  # it is cut off, or damaged
            head = zlib.decompressobj(wbits=31).decompress(_first(file), HEAD_SIZE)
    return head[257:262] == b"ustar"


REFUSED = (
    _refused(
        "a file of torch before 1.6 (or saved without its zip format)",
        _starts(TORCH_BEFORE_1_6),
        'write torch.save(torch.load(FILE, map_location="cpu"), NEW) with a later torch and open that',
    ),
    *(_refused(f"a pickle of {kind}", _pickle_with(*words), cure) for kind, (words, cure) in PICKLES.items()),
    _refused("a pickle", _pickle_with(), SAVE_STATE_DICT),
    _refused("an exported program of torch", _has_member("serialized_exported_program.json"), SAVE_STATE_DICT),
    _refused("an exported program of torch", _has_member("/archive_format"), SAVE_STATE_DICT),
    _refused("TFLite", _starts(b"TFL3", at=4), "it has no GRU, only the steps of one; open the Keras model that it was made from"),
    _refused("GGUF", _starts(b"GGUF"), "open the model that it was made from"),
    _refused(
        "one array of NumPy, or several without names",
        _starts(b"\x93NUMPY"),
        "save them with names, with np.savez or as safetensors",
    ),
    _refused("a Git LFS pointer, not the file itself", _starts(b"version https://git-lfs"), "run git lfs pull and open it again"),
    _refused(
        "msgpack, as flax writes it",
        lambda file: len(file.head) > 1 and file.head[0] & 0xF0 == 0x80 and file.head[1] & 0xE0 == 0xA0,
        FLATTEN,
    ),
    _refused(
        "a session of this program, or another SQLite database",
        _starts(b"SQLite format 3\0"),
        "open a session with tui-gru --session FILE",
    ),
    _refused("compressed with gzip", _starts(GZIP), "decompress it first, with gunzip FILE.gz"),
)


def _find_in_safetensors(file: OpenedFile, order: str | None) -> FileLayers:
    return find_by_name(safetensors.safetensors_tensors(file), SAFETENSORS.name, file.path, order)


SAFETENSORS = FileFormat("safetensors", safetensors.is_safetensors, _find_in_safetensors)

#: ONNX comes last because its files have no magic number.
FORMATS: tuple[FileFormat, ...] = (
    torch_checkpoint.FORMAT,
    keras.ARCHIVE,
    npz.FORMAT,
    keras.HDF5,
    SAFETENSORS,
    FileFormat("tar", is_tar, _find_in_tar),
    *REFUSED,
    onnx.FORMAT,
)


# ------------------------------------------------------------------------------
# Search for the recurrent layers in a model file, with their conventions and the evidence for them.


READ = "torch checkpoints, safetensors, ONNX, npz and Keras files are read, also in tar archives"


def inspect(
    path: str | PathLike[str],
    *,
    order: str | None = None,
    reset: ResetPlace | None = None,
    z: ZMeaning | None = None,
    gate: Gate | None = None,
) -> list[FoundGRU]:
    """Return the GRUs, LSTMs and plain RNNs in the file at `path`; `kind` says which each is. No framework is loaded, no code in
    the file is run, and the weights are not read yet.

    order, reset, z, gate: read them in this convention, regardless of the file; `order` also finds layers whose names say nothing.
    Raises `ModelFileError`, one line that says what to do, if there is none or the file cannot be read.
    """
    layers_of_file = survey(path, order=order, reset=reset, z=z, gate=gate)
    if not layers_of_file.layers:
        raise ModelFileError(f"{printable(path, 250)}: {_nothing(layers_of_file.refused)}", option="path")
    return list(layers_of_file.layers)


def survey(
    path: str | PathLike[str],
    *,
    order: str | None = None,
    reset: ResetPlace | None = None,
    z: ZMeaning | None = None,
    gate: Gate | None = None,
) -> FileLayers:
    """Return what `inspect` returns, and a line for each network that is not opened. Raises `ModelFileError` if the file cannot be
    read."""
    options = checked_convention(order, reset, z, gate)
    if not isinstance(path, (str, PathLike)):
        raise ModelFileError(f"path must be the name of a file, not {type(path).__name__}", option="path")
    if not os.fspath(path):  # for Path, the working directory
        raise ModelFileError("the name of the file is empty; name the file that holds the weights", option="path")
    try:
        expanded = Path(os.path.expanduser(path))
        if holds_a_recording(expanded):
            raise ModelFileError("it is a recording, not a model file; open it with tui-gru open or tui_gru.Session.open")
        file = open_file(expanded)
        for format_ in FORMATS:
            if format_.fits(file):
                layers_of_file = format_.find(file, options.get("order"))
                break
        else:
            raise ModelFileError(f"its format is not known, or it is cut off; {READ}")
    except ModelFileError as error:
        raise ModelFileError(f"{printable(path, 250)}: {error}", option="path") from None
    except OSError as error:
        raise ModelFileError(f"{printable(path, 250)}: it cannot be read: {error.strerror or error}", option="path") from None
    return replace(layers_of_file, layers=tuple(_read_as(_distinct(layers_of_file.layers), options)))


def _read_as(candidates: list[FoundGRU], options: Mapping[str, Any]) -> Iterator[FoundGRU]:
    """Yield the layers, read as the options say; those of a kind that does not have the options are unchanged, if there are others.

    Raises `ModelFileError` for options that fit none.
    """
    fits = [all(value in layers.cell_kind.options[option] for option, value in options.items()) for layers in candidates]
    for layers, fitting in zip(candidates, fits, strict=True):
        yield layers.read_as(**options) if fitting or not any(fits) else layers


def _nothing(refused: tuple[str, ...]) -> str:
    if not refused:
        return "there is no GRU, LSTM or RNN in it; name a file with the weights of one"
    more = f" (and {len(refused) - 1} more that cannot be opened)" if len(refused) > 1 else ""
    return f"there is no GRU, LSTM or RNN in it that can be opened: {refused[0]}{more}"


def _distinct(candidates: tuple[FoundGRU, ...]) -> list[FoundGRU]:
    """Return the same layers with unique names."""
    names: dict[str, int] = {}
    distinct = []
    for gru in candidates:
        names[gru.name] = count = names.get(gru.name, 0) + 1
        distinct.append(gru if count == 1 else replace(gru, name=f"{gru.name}#{count}"))
    return distinct


# ------------------------------------------------------------------------------
# The lines of Python that save an input and an output of the layers, in the program that has the model.


def lines_of_python(layers: FoundGRU) -> tuple[str, ...]:
    """Return lines that write x.npy (T, B, I) and y.npy (T, B, directions · H) of the layers: `model` and `batch` are those of the
    program that has them. For arrays whose names do not say which program that is, the lines say what to save."""
    if layers.format in (keras.ARCHIVE.name, keras.HDF5.name):
        return _of_keras(layers)
    if layers.format == onnx.NAME and "single operations" not in layers.evidence:
        return _of_onnx(layers)
    if layers.format == torch_checkpoint.NAME or any(
        words in layers.evidence for words in ("torch", "hand-written", "linear layers")
    ):
        return _of_torch(layers)
    return (
        "import numpy as np",
        'np.save("x.npy", x)  # what the layers read, (T, B, I): timesteps, rows, input size',
        f'np.save("y.npy", y)  # all outputs of the last layer, (T, B, {"2H" if layers.bidirectional else "H"})',
    )


def _of_torch(layers: FoundGRU) -> tuple[str, ...]:
    path = layers.name.partition("#")[0].removesuffix(".xh").removesuffix(".hx")
    return (
        "import numpy as np",
        "seen = []  # x and y of each call; in a loop over timesteps, a call is one timestep",
        f"module = dict(model.named_modules()).get({path!r}, model)",
        'timed = lambda a: a[None] if a.ndim == 2 else a.swapaxes(0, 1) if getattr(module, "batch_first", False) else a',
        "array = lambda value: timed((value[0] if isinstance(value, tuple) else value).detach().float().cpu().numpy())",
        "module.register_forward_hook(lambda module, args, out: seen.append((array(args[0]), array(out))))",
        "model(batch)  # as your program calls it; the first state must be 0, or be saved for --h0",
        "calls = seen if len(seen[0][0]) == 1 else seen[:1]",
        'np.save("x.npy", np.concatenate([x for x, y in calls]))',
        'np.save("y.npy", np.concatenate([y for x, y in calls]))',
    )


def _of_keras(layers: FoundGRU) -> tuple[str, ...]:
    layer, _, cell = layers.name.partition("#")[0].partition("/")
    file = str(layers.path.name)
    weights_alone = file.endswith(".weights.h5")
    y: tuple[str, ...] = ("y = every(layer.cell, x, -1)",) if layers.directions == ("reverse",) else ("y = every(layer.cell, x)",)
    if layers.bidirectional:  # whatever the model makes of the two
        y = ("y = np.concatenate([every(layer.forward_layer.cell, x), every(layer.backward_layer.cell, x, -1)], -1)",)
    if cell:  # one of several in a layer, each of which reads the output of the one before
        y = (
            "outs = [x]",
            "for cell in layer.cell.cells: outs.append(every(cell, outs[-1]))",
            f"i = [cell.name for cell in layer.cell.cells].index({cell!r})",
            "x, y = outs[i], outs[i + 1]",
        )
    return (
        "import keras, numpy as np",
        f"model.load_weights({file!r})" if weights_alone else f"model = keras.models.load_model({file!r})",
        f"layer = next(each for each in model._flatten_layers() if each.name == {layer!r})",
        "seen, call = [], layer.call",
        "layer.call = lambda x, *args, **kwargs: seen.append(x) or call(x, *args, **kwargs)",
        "model(batch)  # as your program calls it; y is computed from the state 0 and without a mask",
        "array = keras.ops.convert_to_numpy",
        "every = lambda cell, x, way=1: array(keras.layers.RNN(cell, return_sequences=True)(x[:, ::way]))[:, ::way]",
        "x = array(seen[0])",
        *y,
        'np.save("x.npy", x.swapaxes(0, 1))',
        'np.save("y.npy", y.swapaxes(0, 1))',
    )


def _of_onnx(layers: FoundGRU) -> tuple[str, ...]:
    axes = "(1, 0, 2, 3)" if layers.batch_first else "(0, 2, 1, 3)"
    return (
        "import numpy as np, onnx, onnxruntime",
        f"model = onnx.load({str(layers.path.name)!r})",
        f"node = next(n for n in model.graph.node if {layers.name.partition('#')[0]!r} in (n.name, *n.output))",
        "names = [node.input[0], node.output[0]]",
        "known = {value.name for value in (*model.graph.input, *model.graph.output)}",
        "model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)",
        "run = onnxruntime.InferenceSession(model.SerializeToString())",
        "feed = {run.get_inputs()[0].name: batch}",
        "x, y = (feed[n] if n in feed else run.run([n], feed)[0] for n in names)",
        f'np.save("x.npy", {"x.swapaxes(0, 1)" if layers.batch_first else "x"})',
        f'np.save("y.npy", y.transpose({axes}).reshape(*y.transpose({axes}).shape[:2], -1))',
    )
