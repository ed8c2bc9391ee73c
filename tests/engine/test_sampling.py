"""Sampling: the character that a random number selects, the input of each sampler, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.engine.models import random_weights
from tests.engine.test_against_torch_layers import gru
from tui_gru.engine.config import Config
from tui_gru.engine.sampling import choose, sample_text
from tui_gru.engine.training import initial_weights
from tui_gru.errors import TuiGruError


def model(**options):
    return Config.of(text="abcde" * 5, hidden_size=6, batch_size=2, seq_length=4, **options)


CONFIG = model()
WEIGHTS = random_weights(CONFIG.compiled, seed=1)
LOGITS = np.log(np.array([0.125, 0.25, 0.5, 0.125], np.float32))


@pytest.mark.parametrize(
    ("uniform", "index"), [(0.0, 0), (0.124, 0), (0.126, 1), (0.374, 1), (0.376, 2), (0.874, 2), (0.876, 3), (1 - 2**-53, 3)]
)
def test_a_number_picks_by_the_cumulative_sum(uniform, index):
    chosen, y_hat = choose(LOGITS, 1.0, uniform)
    assert chosen == index
    np.testing.assert_allclose(y_hat, [0.125, 0.25, 0.5, 0.125], rtol=1e-6)


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_what_has_no_probability_is_never_chosen(uniform):
    assert choose(np.array([-2000, 3, -2000, 3, -2000], np.float32), 1.0, uniform)[0] in (1, 3)


@pytest.mark.parametrize("scale", [0.1, 1, 30])
def test_the_last_number_below_one_is_within_every_distribution(scale):
    generator = np.random.default_rng(0)
    for _ in range(300):
        logits = generator.normal(0, scale, generator.integers(1, 200)).astype(np.float32)
        assert choose(logits, 1.0, np.nextafter(1, 0))[0] < logits.size


def test_draws_follow_the_probabilities():
    generator, n = np.random.default_rng(11), 20_000
    draws = [choose(LOGITS, 1.0, generator.random())[0] for _ in range(n)]
    expected = n * np.array([0.125, 0.25, 0.5, 0.125])
    chi_square = ((np.bincount(draws, minlength=4) - expected) ** 2 / expected).sum()
    assert chi_square < 11.34  # the 99% quantile with 3 degrees of freedom; the seed is fixed


def test_temperature_sharpens_and_flattens():
    by_temperature = {t: choose(LOGITS, t, 0.5)[1] for t in (1e-320, 0.5, 1.0, 2.0, 1e300)}
    np.testing.assert_allclose(by_temperature[0.5], np.array([1, 4, 16, 1]) / 22, rtol=1e-6)
    np.testing.assert_allclose(by_temperature[2.0], np.sqrt([1, 2, 4, 1]) / np.sqrt([1, 2, 4, 1]).sum(), rtol=1e-6)
    np.testing.assert_allclose(by_temperature[1e-320], [0, 0, 1, 0])
    np.testing.assert_allclose(by_temperature[1e300], [0.25] * 4)


def test_greedy_takes_the_likeliest_and_draws_no_number():
    drawn = sample_text(CONFIG, WEIGHTS, "ab", 20, temperature=0)
    assert {draw.uniform for draw in drawn.draws} == {None}
    assert all(draw.index == np.argmax(draw.y_hat) for draw in drawn.draws)
    assert choose(np.array([1, 3, 3], np.float32), 0, None)[0] == 1


def gru_reset_after(x, h, p):
    z = torch.sigmoid(x @ p["Wz"] + h @ p["Uz"] + p["bz"] + p["bhz"])
    r = torch.sigmoid(x @ p["Wr"] + h @ p["Ur"] + p["br"] + p["bhr"])
    return z * h + (1 - z) * torch.tanh(x @ p["Wh"] + p["bh"] + r * (h @ p["Uh"] + p["bhn"]))


def lstm(x, states, p):
    """Both states, h and c, beside each other."""
    h, c = states.chunk(2, -1)
    i, f, g, o = (x @ p[f"W{gate}"] + h @ p[f"U{gate}"] + p[f"b{gate}"] for gate in "ifgo")
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.cat([torch.sigmoid(o) * torch.tanh(c), c], -1)


def two_rnns(x, states, p):
    below, h = states.chunk(2, -1)[::-1]
    below = torch.tanh(x @ p["Wh_l0"] + below @ p["Uh_l0"] + p["bh_l0"])
    return torch.cat([torch.tanh(below @ p["Wh_l1"] + h @ p["Uh_l1"] + p["bh_l1"]), below], -1)


STEPS = {
    "gru": (gru, {"reset": "before"}),
    "gru-reset-after": (gru_reset_after, {"reset": "after"}),
    "lstm": (lstm, {"cell": "lstm"}),
    "two rnns": (two_rnns, {"cell": "rnn", "layers": 2}),
    "embedding": (lambda x, h, p: gru(x @ p["E"], h, p), {"embedding": 3}),
}


@pytest.mark.parametrize("sampler", ["fed-back", "tutorial"])
@pytest.mark.parametrize(("step", "options"), STEPS.values(), ids=STEPS)
def test_each_draw_is_what_the_model_says_after_what_it_was_fed(sampler, step, options):
    """Compared with the cell in PyTorch: the fed-back sampler reads its own choice, the tutorial's reads the primer again."""
    config = model(dtype="float64", **options)
    weights = random_weights(config.compiled, seed=1)
    p = {name: torch.tensor(value) for name, value in weights.items()}
    drawn = sample_text(config, weights, "cab", 12, sampler=sampler, temperature=0.8, seed=5)
    states, fed = torch.zeros(1, 6 * len(config.model.page.states), dtype=torch.float64), "cab"
    for draw in drawn.draws:
        for char in fed:
            states = step(torch.eye(5, dtype=torch.float64)[[config.vocabulary.index(char)]], states, p)
        expected = torch.softmax((states[:, :6] @ p["Wy"] + p["by"])[0] / 0.8, -1)
        np.testing.assert_allclose(draw.y_hat, expected, rtol=1e-10)
        fed = draw.char if sampler == "fed-back" else "cab"
    assert drawn.text == "cab" + "".join(draw.char for draw in drawn.draws)
    assert len(set(drawn.text)) > 2


def test_a_cell_that_joins_the_input_with_its_state_reads_the_character():
    config = model(cell="joined.cell", cell_text="reads x\nstate h : H\nparameters W\nh = tanh([x, h_prev] W)\n", dtype="float64")
    weights, h = random_weights(config.compiled, seed=1), np.zeros(6)
    for draw, char in zip(sample_text(config, weights, "c", 3, temperature=0).draws, "c", strict=False):
        h = np.tanh(np.concatenate([np.eye(5)["abcde".index(char)], h]) @ weights["W"])
        logits = h @ weights["Wy"] + weights["by"]
        np.testing.assert_allclose(draw.y_hat, np.exp(logits) / np.exp(logits).sum(), rtol=1e-12)


def test_the_recorded_number_reproduces_the_choice():
    drawn = sample_text(CONFIG, WEIGHTS, "a", 50, seed=3)
    for draw in drawn.draws:
        assert draw.char == CONFIG.vocabulary[draw.index]
        assert draw.index == choose(np.log(draw.y_hat), 1.0, draw.uniform)[0]


def test_the_seed_decides():
    texts = [sample_text(CONFIG, WEIGHTS, "a", 40, seed=seed).text for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_a_longer_sample_begins_with_the_shorter_one():
    long = sample_text(CONFIG, WEIGHTS, "a", 30, seed=2)
    assert [sample_text(CONFIG, WEIGHTS, "a", n, seed=2).text for n in (0, 1, 12)] == [long.text[: n + 1] for n in (0, 1, 12)]


def test_a_sample_that_is_stopped_is_a_shorter_one():
    asked = []

    def stop(done):
        asked.append(done)
        return done == 7

    stopped = sample_text(CONFIG, WEIGHTS, "a", 30, seed=2, stop=stop)
    assert asked == list(range(1, 8))
    assert stopped.text == sample_text(CONFIG, WEIGHTS, "a", 7, seed=2).text


def test_sampling_changes_no_parameter_and_no_other_generator():
    config = Config.of()
    weights = initial_weights(config)
    before, state = weights.tobytes(), np.random.get_state()[1].copy()
    for sampler in ("fed-back", "tutorial"):
        sample_text(config, weights, "Ma", 10, sampler=sampler)
    assert weights.tobytes() == before
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_a_model_that_reads_backwards_too_is_refused():
    config = model(bidirectional=True)
    with pytest.raises(TuiGruError, match="needs the whole text before it can predict, so it cannot sample"):
        sample_text(config, initial_weights(config), "a", 3)


@pytest.mark.parametrize(
    ("options", "option", "message"),
    [
        ({"primer": ""}, "primer", "the primer is empty"),
        ({"primer": "a!"}, "primer", "'!' at position 2 of the primer is not in the vocabulary 'abcde'"),
        ({"length": -1}, "length", "0 or more, not -1"),
        ({"length": 1.5}, "length", "a whole number, not 1.5"),
        ({"sampler": "beam"}, "sampler", "one of fed-back, tutorial, not 'beam'"),
        ({"temperature": -0.5}, "temperature", "0 or more, not -0.5"),
        ({"temperature": float("nan")}, "temperature", "finite"),
        ({"temperature": "hot"}, "temperature", "not 'hot'"),
        ({"seed": -1}, "sample_seed", "0 or more, not -1"),
    ],
)
def test_refused(options, option, message):
    with pytest.raises(TuiGruError) as caught:
        sample_text(CONFIG, WEIGHTS, **{"primer": "a", "length": 3, **options})
    assert caught.value.option == option
    assert message in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_model_that_is_not_finite_is_refused_in_words(bad):
    weights = WEIGHTS.copy()
    weights["by"][2] = bad
    with pytest.raises(TuiGruError, match="not finite"):
        sample_text(CONFIG, weights, "a", 3)
