"""Three verdicts on an expected output: equal to rounding, this convention but not to rounding, and another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import tui_gru
from tui_gru.cli.commands import main
from tui_gru.imported.convention import ProofResult
from tui_gru.session.session import Session

T, B, IN, H = 40, 3, 4, 16


def table(a: np.ndarray) -> np.ndarray:
    """tanh from a table with linear interpolation, as in embedded C code."""
    known = np.arange(-8, 8.01, 0.04)
    return np.interp(a, known, np.tanh(known))


def fixed_point(a: np.ndarray) -> np.ndarray:
    """tanh with ten bits after the point."""
    return np.asarray(np.round(np.tanh(a) * 1024) / 1024)


def of_c_code(gru: torch.nn.GRU, x: np.ndarray, tanh: object) -> np.ndarray:
    """The output of a GRU with an approximate tanh, and the sigmoid made of it."""
    assert callable(tanh)
    W, U, b, c = (getattr(gru, name).detach().numpy() for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"))
    h, found = np.zeros((x.shape[1], H), np.float32), []
    for one in x:
        (i_r, i_z, i_n), (h_r, h_z, h_n) = np.split(one @ W.T + b, 3, 1), np.split(h @ U.T + c, 3, 1)
        r, z = 0.5 + 0.5 * tanh((i_r + h_r) / 2), 0.5 + 0.5 * tanh((i_z + h_z) / 2)
        h = ((1 - z) * tanh(i_n + r * h_n) + z * h).astype(np.float32)
        found.append(h)
    return np.stack(found)


class Model:
    """A GRU in a file, its weights multiplied by `scale`, with an input and its output."""

    def __init__(self, folder: Path, scale: float = 1, timesteps: int = T, **options: object) -> None:
        torch.manual_seed(0)
        self.gru, self.x = torch.nn.GRU(IN, H, **options), torch.randn(timesteps, B, IN)  # type: ignore[arg-type]
        with torch.no_grad():
            for parameter in self.gru.parameters():
                parameter.mul_(scale)
        self.path = folder / "model.pt"
        torch.save(self.gru.state_dict(), self.path)

    @property
    def y(self) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(self.gru(self.x)[0].numpy())

    def opened(self, expect: np.ndarray) -> Session:
        return tui_gru.load(self.path, inputs=self.x.numpy(), expect=expect)


def result(s: Session) -> ProofResult:
    assert s.expected is not None
    assert s.expected.agrees == (s.expected.result is ProofResult.EQUAL)
    return s.expected.result


def named(s: Session) -> list[str]:
    """The names of the findings about the output."""
    return [finding.name for finding in s.findings() if finding.name in ("axes-swapped", "output-not-expected", "gates-mixed-up")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def test_equal_to_rounding(folder: Path) -> None:
    model = Model(folder)
    s = model.opened(model.y)
    assert result(s) is ProofResult.EQUAL
    assert s.expected is not None
    assert s.expected.sentence.startswith("the output is the expected one: off by")


def test_what_stacked_layers_round_is_rounding(folder: Path) -> None:
    model = Model(folder, scale=8, timesteps=60, num_layers=3)
    s = model.opened(model.y)
    assert s.expected is not None
    assert s.expected.one_step.error > 1e-5  # about 2e-4, far more than one step of one layer rounds
    assert result(s) is ProofResult.EQUAL
    assert s.expected.sentence.startswith("the output is the expected one")
    assert not named(s)


@pytest.mark.parametrize("tanh", [table, fixed_point])
def test_an_approximate_tanh_is_this_convention_but_not_to_rounding(folder: Path, tanh: object) -> None:
    model = Model(folder)
    s = model.opened(of_c_code(model.gru, model.x.numpy(), tanh))
    assert result(s) is ProofResult.NEAR
    assert s.expected is not None
    assert s.expected.sentence.startswith("this convention, but not to rounding (the next best is off by ")
    assert "may approximate tanh and σ, as embedded C code does" in s.expected.sentence
    (finding,) = (each for each in s.findings() if each.name == "output-not-expected")
    assert finding.title == "the output is that of this convention, but not to rounding"
    assert "the next best is off by" in finding.meaning


def test_fewer_digits_below_the_last_layer(folder: Path) -> None:
    model = Model(folder, num_layers=2, bidirectional=True)
    noise = np.random.default_rng(0).standard_normal(model.y.shape)
    s = model.opened((model.y + 1e-4 * noise).astype(np.float32))
    assert result(s) is ProofResult.NEAR
    assert s.expected is not None
    assert "the states below the last layer are not recorded, so what differs in them adds up" in s.expected.sentence


def test_another(folder: Path) -> None:
    model = Model(folder)
    s = model.opened(model.y[:, :, ::-1])
    assert result(s) is ProofResult.NONE
    assert s.expected is not None
    assert s.expected.sentence.startswith("the output is not the expected one: off by")


def test_a_chaotic_layer_below_cannot_be_judged(folder: Path) -> None:
    model = Model(folder, timesteps=150, num_layers=2)
    with torch.no_grad():
        model.gru.weight_hh_l0.mul_(25)
        model.gru.weight_ih_l0.mul_(5)
    torch.save(model.gru.state_dict(), model.path)
    s = model.opened(model.y)
    assert s.expected is not None
    assert result(s) is ProofResult.NEAR
    assert "a layer below the last amplifies rounding ×1." in s.expected.sentence
    assert "so the layers above it cannot be judged" in s.expected.sentence


def test_a_right_convention_does_not_hide_that_the_axes_are_swapped(folder: Path) -> None:
    model = Model(folder, scale=8, timesteps=30, num_layers=3, batch_first=True)
    s = model.opened(model.y)
    assert result(s) is ProofResult.NONE
    assert named(s) == ["axes-swapped"]


def test_the_check_says_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Model(folder)
    np.save(folder / "x.npy", model.x.numpy())
    np.save(folder / "y.npy", model.y + np.float32(3e-4))
    assert main(["check", str(model.path), "--input", str(folder / "x.npy"), "--expect", str(folder / "y.npy")]) == 1
    assert capsys.readouterr().out.startswith("this convention, but not to rounding (the next best is off by ")
    s = model.opened(model.y)
    s.seek(s.end)
    assert any("the output is the expected one" in note for note in s.check().notes)


@pytest.mark.parametrize("seed", [1, 20])
def test_a_correct_port_of_a_deep_stack_is_right_however_its_roundings_fall(folder: Path, seed: int) -> None:
    """PyTorch's own float32 is up to several times as far from float64 as that of this program, and the reverse."""
    torch.manual_seed(seed)
    rnn, x = torch.nn.RNN(IN, 8, num_layers=8), torch.randn(20, 2, IN)
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.mul_(6)
        y = rnn(x)[0].numpy()
    torch.save(rnn.state_dict(), folder / "model.pt")
    found = tui_gru.load(folder / "model.pt", inputs=x.numpy(), expect=y).expected
    assert found is not None
    assert found.agrees, found.sentence
    wrong = tui_gru.load(folder / "model.pt", inputs=x.numpy(), expect=np.sign(y) * np.abs(y) ** 1.2).expected
    assert wrong is not None
    assert not wrong.agrees
