"""Files of torch.save, compared with torch: every tensor bit for bit, and the output of the GRU."""

import argparse
import collections
import pickle
import warnings
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from tests.imported.running import named, run
from tests.rounding import of_found
from tui_gru.errors import ModelFileError
from tui_gru.imported.inspect import inspect, survey


@pytest.fixture(autouse=True)
def seeded():
    torch.set_num_threads(1)
    torch.manual_seed(7)


@pytest.fixture
def saved(tmp_path):
    def save(value, **options):
        path = tmp_path / "model.pt"
        torch.save(value, path, **options)
        return path

    return save


def blocks_of(weight):
    """Return torch's rows r, z, n as matrices for inputs that multiply from the left."""
    return [block.T for block in np.split(weight.detach().numpy(), 3)]


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_an_nn_gru_is_found_and_computes_what_torch_does(saved, layers, bidirectional, bias):
    gru = nn.GRU(3, 5, layers, bidirectional=bidirectional, bias=bias)
    (found,) = inspect(saved(gru.state_dict()))
    assert (found.layers, found.bidirectional, found.input_size, found.hidden_size) == (layers, bidirectional, 3, 5)
    assert (found.order, found.reset, found.z, found.gate) == ("rzn", "after", "keeps", "sigmoid")
    assert (found.name, found.dtype, found.biases) == ("gru", "float32", "two" if bias else "none")
    x, h0 = torch.randn(6, 2, 3), torch.randn(layers * (1 + bidirectional), 2, 5)
    y = gru(x, h0)[0].detach().numpy()
    np.testing.assert_allclose(run(found, x.numpy(), h0.numpy()), y, rtol=0, atol=of_found(found, x.numpy(), h0.numpy()))


def test_every_block_is_the_number_that_torch_has(saved):
    gru = nn.GRU(3, 5, 2, bidirectional=True)
    (found,) = inspect(saved({"encoder": gru.state_dict()}))
    for layer, cells in enumerate(found.weights().cells):
        for cell, end in zip(cells, ("", "_reverse"), strict=True):
            for side, letter in (("ih", "W"), ("hh", "U")):
                for gate, block in zip("rzh", blocks_of(getattr(gru, f"weight_{side}_l{layer}{end}")), strict=True):
                    assert np.array_equal(cell[letter + gate], block)
            biases = [getattr(gru, f"bias_{side}_l{layer}{end}").detach().numpy() for side in ("ih", "hh")]
            assert np.array_equal(np.concatenate([cell["br"], cell["bz"], cell["bh"]]), biases[0])
            assert np.array_equal(np.concatenate([cell["bhr"], cell["bhz"], cell["bhn"]]), biases[1])
            assert all(array.flags.c_contiguous and array.dtype == np.float32 for array in cell.values())


def test_a_gru_cell_is_found(saved):
    cell = nn.GRUCell(3, 5)
    (found,) = inspect(saved(nn.ModuleDict({"decoder": cell}).state_dict()))
    assert (found.name, found.layers, found.bidirectional) == ("decoder", 1, False)
    x, h = torch.randn(1, 2, 3), torch.randn(2, 5)
    ours, theirs = run(found, x.numpy(), h.numpy()[None])[0], cell(x[0], h).detach().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=of_found(found, x.numpy(), h.numpy()))


@pytest.mark.parametrize("new", [False, True], ids=["weight_g and weight_v", "parametrizations"])
@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_weight_norm_is_composed(saved, new, dim):
    gru = nn.GRU(3, 5, 2)
    norm = nn.utils.parametrizations.weight_norm if new else nn.utils.weight_norm
    for name in ("weight_ih_l0", "weight_hh_l0", "weight_hh_l1"):
        norm(gru, name, dim=dim)
    with torch.no_grad():
        for parameter in gru.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    gru.eval()
    x = torch.randn(6, 2, 3)
    y = gru(x)[0].detach().numpy()
    (found,) = inspect(saved(nn.ModuleDict({"encoder": gru}).state_dict()))
    assert (found.name, found.layers) == ("encoder", 2)
    assert "weight_norm" in found.evidence
    np.testing.assert_allclose(run(found, x.numpy()), y, rtol=0, atol=of_found(found, x.numpy()))


def test_weights_before_a_dropout_of_weights(saved):
    gru = nn.GRU(3, 5, 2)
    x = torch.randn(6, 2, 3)
    names = {name: f"{name}_raw" if name.startswith("weight_hh") else name for name in gru.state_dict()}
    (found,) = inspect(saved({f"rnns.0.{names[name]}": value for name, value in gru.state_dict().items()}))
    assert (found.name, found.layers) == ("rnns.0", 2)
    assert found.evidence.endswith("weights stored as _raw, before a dropout of weights")
    np.testing.assert_allclose(run(found, x.numpy()), gru(x)[0].detach().numpy(), rtol=0, atol=of_found(found, x.numpy()))
    (drawn,) = inspect(saved({**gru.state_dict(), "weight_hh_l0_raw": torch.zeros(15, 5)}))
    assert "_raw" not in drawn.evidence


def test_another_parametrization_is_refused_with_the_cure(saved):
    gru = nn.GRU(3, 5)
    nn.utils.parametrizations.spectral_norm(gru, "weight_hh_l0")
    with pytest.raises(ModelFileError, match="remove_parametrizations"):
        inspect(saved(gru.state_dict()))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 3)
        self.encoder = nn.GRU(3, 5, bidirectional=True)
        self.decoder = nn.GRUCell(10, 4)
        self.memory = nn.LSTM(3, 2)
        self.plain = nn.RNN(3, 2)


KINDS = [("encoder", "gru"), ("memory", "lstm"), ("plain", "rnn"), ("decoder", "gru")]  # by name in the order of the names known


class Settings:
    """Settings of a trainer, which only its own program can load."""

    def __init__(self):
        self.rate, self.words = 0.1, ["a"]


def test_a_trainers_checkpoint_is_read_past_what_is_not_known(saved):
    model = Model()
    parameters = list(model.parameters())
    optimizer = {  # the layout of torch.optim.Adam
        "state": {k: {"step": torch.tensor(3.0), "exp_avg": p.detach().clone()} for k, p in enumerate(parameters)},
        "param_groups": [{"lr": 0.001, "betas": (0.9, 0.999), "fused": None, "params": list(range(len(parameters)))}],
    }
    path = saved(
        {
            "epoch": 3,
            "state_dict": model.state_dict(),
            "optimizer": optimizer,
            "arguments": argparse.Namespace(rate=0.1, path=None),
            "settings": Settings(),
            "best": np.float64(0.25),
            "history": collections.defaultdict(list, loss=[1.0, 0.5]),
            "seen": {1, 2},
            "rng": torch.get_rng_state(),
            "big": 2**100,
        }
    )
    found = survey(path)
    assert [(gru.name, gru.kind) for gru in found.layers] == KINDS
    assert found.refused == ()
    x = torch.randn(4, 2, 3)
    y = model.encoder(x)[0].detach().numpy()
    np.testing.assert_allclose(run(found.layers[0], x.numpy()), y, rtol=0, atol=of_found(found.layers[0], x.numpy()))


def test_two_state_dicts_with_the_same_names_are_told_apart(saved):
    model, average = Model(), Model()
    found = inspect(saved({"model": model.state_dict(), "ema": {"module": average.state_dict()}}))
    assert [gru.name for gru in found] == [
        f"{place}.{name}" for family in (KINDS[:3], KINDS[3:]) for place in ("model", "ema.module") for name, _ in family
    ]
    W = named(found, "ema.module.decoder").weights().cells[0][0]["Wr"]
    assert np.array_equal(W, average.decoder.weight_ih[:4].T.detach().numpy())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_are_read_exactly(saved, dtype):
    gru = nn.GRU(3, 5).to(dtype)
    (found,) = inspect(saved(gru.state_dict()))
    assert found.dtype == str(dtype).removeprefix("torch.")
    W = found.weights().cells[0][0]["Wz"]
    assert W.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    assert np.array_equal(W, gru.weight_ih_l0[5:10].T.detach().to(torch.float64).numpy())


def test_views_of_one_storage_are_read(saved):
    gru = nn.GRU(3, 5)
    flat = torch.cat([parameter.detach().flatten() for parameter in gru.parameters()])
    views, at = {}, 0
    for name, parameter in gru.named_parameters():
        views[name] = flat[at : at + parameter.numel()].view_as(parameter)
        at += parameter.numel()
    views["weight_ih_l0"] = views["weight_ih_l0"].T.contiguous().T  # by columns
    (found,) = inspect(saved(views))
    x = torch.randn(4, 2, 3)
    np.testing.assert_allclose(run(found, x.numpy()), gru(x)[0].detach().numpy(), rtol=0, atol=of_found(found, x.numpy()))


def test_parameters_and_tensors_with_attributes_are_read(saved):
    gru = nn.GRU(3, 5)
    values = dict(gru.named_parameters())
    values["weight_hh_l0"].note = "kept"
    (found,) = inspect(saved(values))
    assert np.array_equal(found.weights().cells[0][0]["Uz"], gru.weight_hh_l0[5:10].T.detach().numpy())


def test_a_file_without_checksums_is_read_and_one_with_a_wrong_one_is_not(saved, tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        (found,) = inspect(saved(nn.GRU(3, 5).state_dict()))
    finally:
        torch.serialization.set_crc32_options(True)
    assert found.weights()
    path = saved(nn.GRU(3, 5).state_dict())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("model/data/0")
    data = bytearray(path.read_bytes())
    at = data.index(b"model/data/0", info.header_offset) + len(b"model/data/0") + 80
    data[at] ^= 1
    path.write_bytes(data)
    (found,) = inspect(path)
    with pytest.raises(ModelFileError, match=r"model/data/0 in it does not match its checksum; get the file again"):
        found.weights()


def test_a_whole_pickled_module_is_refused_by_the_name_of_its_class(saved):
    with pytest.raises(ModelFileError, match=r"pickled tests\S*\.Model, which only the code.*torch\.save\(model\.state_dict"):
        inspect(saved(Model()))
    with pytest.raises(ModelFileError, match=r"model: it is a pickled tests\S*\.Model"):
        inspect(saved({"model": Model(), "epoch": 3}))


def test_torchscript_is_refused_with_the_cure(tmp_path):
    path = tmp_path / "script.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.GRU(3, 5)), path)
    with pytest.raises(ModelFileError, match=r"TorchScript.*torch\.jit\.load\(FILE\)\.state_dict"):
        inspect(path)


def test_an_exported_program_is_refused_with_the_cure(tmp_path):
    path = tmp_path / "program.pt2"
    with zipfile.ZipFile(path, "w") as archive:  # the first members of what torch.export.save writes
        archive.writestr("program/archive_format", "pt2")
        archive.writestr("program/models/model.json", "{}")
    with pytest.raises(ModelFileError, match=r"exported program of torch.*state_dict"):
        inspect(path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_quantised_weights_are_refused_and_the_rest_is_found(saved):
    model = torch.ao.quantization.quantize_dynamic(nn.ModuleDict({"a": nn.GRU(3, 5), "b": nn.GRUCell(3, 5)}), {nn.GRU})
    found = survey(saved(model.state_dict()))
    assert [gru.name for gru in found.layers] == ["b"]
    assert all("it is quantised; save and open the model in float" in line for line in found.refused)
    assert len(found.refused) == 1
    whole = nn.GRU(3, 5).state_dict()
    with pytest.raises(ModelFileError, match="int8, so it is quantised"):
        inspect(saved({name: value.to(torch.int8) for name, value in whole.items()}))


def test_the_old_format_and_bare_pickles_are_refused_with_the_cure(saved, tmp_path):
    with pytest.raises(ModelFileError, match=r"torch before 1\.6.*, NEW\)") as refused:
        inspect(saved(nn.GRU(3, 5).state_dict(), _use_new_zipfile_serialization=False))
    assert 'torch.save(torch.load(FILE, map_location="cpu"), NEW)' in str(refused.value)  # it was often saved on a GPU
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"weight": 1}))
    with pytest.raises(ModelFileError, match=r"it is a pickle, which is not supported.*state_dict"):
        inspect(path)


def test_a_stack_with_a_layer_missing_is_refused(saved):
    weights = nn.GRU(3, 5, 3, bidirectional=True).state_dict()
    for name in list(weights):
        if name.endswith("_l1_reverse"):
            del weights[name]
    with pytest.raises(ModelFileError, match="a layer or direction of it is missing"):
        inspect(saved(weights))
    del weights["weight_hh_l0"]
    with pytest.raises(ModelFileError, match="weight_hh of one layer or direction is missing"):
        inspect(saved(weights))


@pytest.mark.parametrize("name", ["bias_hh_l0", "bias_hh_l1", "bias_ih_l1"])
def test_a_stack_with_a_bias_missing_is_refused(saved, name):
    """It would be read as zeros, and give other states than the model."""
    weights = nn.GRU(3, 5, 2).state_dict()
    del weights[name]
    with pytest.raises(ModelFileError, match=f"{name[:-3]} of one layer or direction is missing; save all of them"):
        inspect(saved(weights))


@pytest.mark.parametrize(("module", "end"), [(nn.GRU(3, 5), "_l0"), (nn.GRUCell(3, 5), "")], ids=["nn.GRU", "nn.GRUCell"])
@pytest.mark.parametrize(("there", "missing"), [("bias_ih", "bias_hh"), ("bias_hh", "bias_ih")])
def test_one_bias_of_a_pair_is_refused(saved, module, end, there, missing):
    weights = {f"enc.{name}": weight for name, weight in module.state_dict().items() if not name.startswith(missing)}
    with pytest.raises(ModelFileError, match=f"enc: it has enc.{there}{end} without enc.{missing}{end}; save both"):
        inspect(saved(weights))


def test_nan_in_the_weights_is_read_as_it_is(saved):
    gru = nn.GRU(3, 5)
    with torch.no_grad():
        gru.weight_hh_l0[0, 0] = torch.nan
        gru.weight_hh_l0.view(torch.int32)[1, 0] = 0x7F800001  # one that signals
        gru.bias_ih_l0[0], gru.bias_hh_l0[0] = torch.inf, -torch.inf
    (found,) = inspect(saved(gru.state_dict()))
    assert np.isnan(found.weights().cells[0][0]["Ur"][0, :2]).all()
    assert np.isnan(found.read_as(reset="before").weights().cells[0][0]["br"][0])
