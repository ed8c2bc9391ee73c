"""Invalid options are refused in one line that names the option and says what to do; missing ones get defaults."""

from __future__ import annotations

import numpy as np
import pytest

from tui_gru.engine import config as module
from tui_gru.engine.batch import BatchRecord
from tui_gru.engine.config import Config
from tui_gru.errors import TuiGruError

SMALL = {"batch_size": 2, "seq_length": 3}


def own(line, *, state=True):
    """Options of a cell with one line that reads only one-hot characters."""
    return {"cell": "own.cell", "cell_text": f"{'state h : H' if state else '#'}\nparameters Wh(V H) Uh\n{line}"}


@pytest.mark.parametrize(
    ("options", "option", "message"),
    [
        ({"text": ""}, "text", "the text is empty; it needs at least 2 characters"),
        ({"text": "MathMa", **SMALL}, "text", "the text has 6 characters; 2 rows of 3 timesteps need 7"),
        ({"text": "M"}, "text", "the text has 1 character; 1 rows of 1 timesteps need 2"),
        ({"text": 5}, "text", "text must be a string, not int"),
        ({"text": b"MathMath"}, "text", "text must be a string, not bytes"),
        (
            {"text": "Math!Math", "vocabulary": "hatM"},
            "vocabulary",
            "'!' at position 5 of the text is not in the vocabulary 'hatM'",
        ),
        ({"text": "Math\nMath", "vocabulary": "hatM"}, "vocabulary", r"'\n' at position 5"),
        ({"vocabulary": "hatMa"}, "vocabulary", "'a' twice, at 2 and 5; remove one"),
        ({"vocabulary": ""}, "vocabulary", "'M' at position 1 of the text is not in the vocabulary ''"),
        ({"vocabulary": 7}, "vocabulary", "must be characters or longer tokens, not 7"),
        ({"vocabulary": ["h", 3, "M"]}, "vocabulary", "must be characters or longer tokens, not 3"),
        ({"hidden_size": 0}, "hidden_size", "must be at least 1, not 0"),
        ({"batch_size": -2}, "batch_size", "must be at least 1, not -2"),
        ({"seq_length": 2.0}, "seq_length", "must be a whole number, not 2.0"),
        ({"hidden_size": True}, "hidden_size", "must be a whole number, not True"),
        ({"hidden_size": "2"}, "hidden_size", "must be a whole number, not '2'"),
        ({"seq_length": 10**30}, "text", "use a longer text or smaller sizes"),
        ({"hidden_size": 10**30}, "hidden_size", "GiB"),
        ({"seed": -1}, "seed", "from 0 to 2^63-1"),
        ({"seed": 2**63}, "seed", "from 0 to 2^63-1"),
        ({"seed": 1.0}, "seed", "whole number"),
        ({"learning_rate": float("nan")}, "learning_rate", "must be finite and not negative, not nan"),
        ({"learning_rate": float("inf")}, "learning_rate", "must be finite and not negative, not inf"),
        ({"learning_rate": -0.1}, "learning_rate", "must be finite and not negative, not -0.1"),
        ({"learning_rate": "fast"}, "learning_rate", "must be a number, not 'fast'"),
        ({"learning_rate": None}, "learning_rate", "must be a number, not None"),
        ({"carry": "keep"}, "carry", "one of detach, reset, notebook, not 'keep'"),
        ({"dtype": "float16"}, "dtype", "one of float32, float64, not 'float16'"),
        ({"reset": "never"}, "reset", "one of before, after, not 'never'"),
        ({"carry": ["detach"]}, "carry", "one of detach, reset, notebook"),
        ({"depth": 2}, "depth", "unknown option 'depth'; there are: text, vocabulary, hidden_size"),
        ({"reset": "after", "cell": "gru"}, "reset", "reset after is the cell gru-reset-after, but the cell is gru; give one"),
        ({"reset": "before", "cell": "lstm"}, "reset", "reset before is the cell gru, but the cell is lstm; give one of the two"),
        ({"cell": "gruu"}, "cell", "there is no cell 'gruu'"),
        ({"cell": 3}, "cell", "cell must be the name of a cell or of a .cell file, not 3"),
        ({"cell": ""}, "cell", "cell must be the name of a cell or of a .cell file, not ''"),
        (
            {"cell": "a\x1b[2J.cell", "cell_text": "h = x W"},
            "cell",
            r"the name 'a\x1b[2J.cell' has characters that cannot be shown",
        ),
        ({"cell": "nowhere.cell"}, "cell", "nowhere.cell: No such file"),
        (
            own("h = tanh(x Wh)\n", state=False),
            "cell",
            "own.cell: a cell needs a state that is carried from one timestep to the next",
        ),
        (own("h = tanh(x + h_prev Uh)"), "cell", "own.cell:3:5: h is (B, H), but its line gives (B, V)"),
        (own("h = tanh(x Wh + h_prev Uh)") | {"layers": 2}, "cell", "h_l0 Wh_l1 does not fit: h_l0 is (B, H), Wh_l1 is (V, H)"),
        (own("h = tanh(x Wh + h_prev Uh)") | {"embedding": 5}, "cell", "x Wh does not fit: x is (B, D), Wh is (V, H)"),
        ({"layers": 0}, "layers", "layers must be from 1 to 16, not 0"),
        ({"layers": 17}, "layers", "layers must be from 1 to 16, not 17"),
        ({"embedding": -1}, "embedding", "embedding must be 0 or more, not -1"),
        ({"bidirectional": "yes"}, "bidirectional", "bidirectional must be True or False, not 'yes'"),
        ({"bidirectional": True, "carry": "notebook"}, "carry", "use carry detach or reset"),
        ({"optimizer": "lion"}, "optimizer", "optimizer must be sgd, momentum, adam or the name of an .update file, not 'lion'"),
        ({"clip": -1}, "clip", "must be finite and not negative, not -1.0; 0 turns it off"),
        ({"clip": float("nan")}, "clip", "must be finite and not negative, not nan"),
        ({"init": "zeros"}, "init", "one of tutorial, torch, file, not 'zeros'"),
        ({"layout": "random"}, "layout", "one of tutorial, contiguous, not 'random'"),
    ],
)
def test_refused(options, option, message):
    with pytest.raises(TuiGruError) as caught:
        Config.of(**options)
    assert caught.value.option == option
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_long_vocabulary_is_cut_in_a_message():
    vocabulary = "".join(map(chr, range(0x4E00, 0x4E00 + 3000)))
    with pytest.raises(TuiGruError) as caught:
        Config.of(text=vocabulary + "!", vocabulary=vocabulary)
    assert len(str(caught.value)) < 200


def test_memory_is_told_before_it_is_taken(monkeypatch):
    small = Config.of()
    monkeypatch.setattr(module, "machine_memory", lambda: 2 * small.record_bytes)
    assert Config.of() == small
    with pytest.raises(TuiGruError, match="more than half of this machine's memory") as caught:
        Config.of(hidden_size=3)
    assert caught.value.option == "hidden_size"
    assert str(caught.value).endswith("; use a smaller hidden_size, batch_size or seq_length")
    for option, size in (("embedding", 1000), ("seq_length", 9), ("batch_size", 6)):
        with pytest.raises(TuiGruError, match="more than half of this machine's memory") as caught:
            Config.of(**{option: size})
        assert caught.value.option == option
    with pytest.raises(TuiGruError, match="keeps a whole epoch") as caught:
        Config.of(carry="notebook")
    assert caught.value.option == "carry"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_memory_told_is_the_memory_taken(dtype):
    config = Config.of(text="abcdefghij" * 500, hidden_size=40, batch_size=16, seq_length=50, dtype=dtype)
    assert config.record_bytes == pytest.approx(BatchRecord(config.compiled).nbytes, rel=0.01)


def test_the_vocabulary_of_the_tutorials_text_has_its_own_order():
    assert Config.of().vocabulary == "hatM"
    assert Config.of(text="MathMathMathMathMath").vocabulary == "hatM"


def test_the_vocabulary_of_another_text_is_sorted_by_code_point():
    assert Config.of(text="zebra Zoo é 日本 🙂!").vocabulary == " !Zabeorzé日本🙂"


def test_a_given_vocabulary_keeps_its_order_and_may_have_more():
    assert Config.of(vocabulary="?Math").vocabulary == "?Math"
    assert Config.of(vocabulary=["t", "a", "h", "M"]).vocabulary == "tahM"


def test_numbers_of_other_types_become_plain_ones():
    config = Config.of(hidden_size=np.int64(3), learning_rate=np.float32(0.5), seed=np.uint8(4))
    assert (type(config.hidden_size), type(config.learning_rate), type(config.seed)) == (int, float, int)


def test_a_learning_rate_of_zero_is_a_rate():
    assert Config.of(learning_rate=0).learning_rate == 0


@pytest.mark.parametrize("reset", ["before", "after"])
def test_parameter_count(reset):
    assert Config.of(reset=reset).parameter_count == 3 * (4 * 2 + 2 * 2 + 2) + 2 * 4 + 4 + (6 if reset == "after" else 0)


def test_another_text_brings_options_that_learn_it_unless_they_are_given():
    learns = {"optimizer": "adam", "clip": 1.0, "init": "torch", "layout": "contiguous"}
    tutorials = {"optimizer": "sgd", "clip": 0.0, "init": "tutorial", "layout": "tutorial"}
    for options, expected in (({}, learns), (tutorials, tutorials)):
        config = Config.of(text="hello world", **options)
        assert {name: getattr(config, name) for name in expected} == expected
    tutorial = Config.of()
    assert {name: getattr(tutorial, name) for name in tutorials} == tutorials


def test_reset_is_another_way_to_say_one_of_two_cells():
    assert Config.of(reset="after") == Config.of(cell="gru-reset-after")
    assert Config.of(reset="before") == Config.of(cell="gru") == Config.of()
    assert Config.of(cell="lstm").reset == ""


TEXT_SIZES = ("hidden_size", "batch_size", "seq_length")


@pytest.mark.parametrize(
    ("length", "options", "sizes"),
    [
        (30_000, {}, (64, 8, 32)),
        (2000, {}, (64, 8, 32)),
        (1999, {}, (64, 2, 32)),
        (100, {}, (64, 2, 24)),  # two batches of each row read 96 of 99 characters, one of 32 timesteps would read 64
        (12, {}, (64, 2, 5)),
        (2, {}, (64, 1, 1)),
        (100, {"hidden_size": 3, "batch_size": 4}, (3, 4, 24)),
        (100, {"seq_length": 60}, (64, 1, 60)),
        (30_000, {"seq_length": 5}, (64, 8, 5)),
    ],
)
def test_a_text_of_ones_own_has_sizes_that_learn_it_and_fewer_if_it_is_short(length, options, sizes):
    config = Config.of(text="ab" * (length // 2) + "a" * (length % 2), **options)
    assert tuple(getattr(config, name) for name in TEXT_SIZES) == sizes
    assert (config.learning_rate, config.optimizer) == (0.01, "adam")
    assert config.with_options(config.options) == config


def test_learning_is_on_for_a_text_of_ones_own_and_the_tutorials_text_is_as_in_the_tutorial():
    from tui_gru import Session

    assert Session(text="the cat sat on the mat").learning
    assert not Session().learning
    assert not Session(text="MathMathMathMathMath").learning
    assert Config.of(text="MathMathMathMathMath") == Config()


def test_a_sample_begins_with_the_first_word():
    texts = ("The cat sat", "The "), ("\n A b", "\n A "), ("x" * 40, "xx"), ("", ""), (("the", "cat"), ("the",))
    assert [module.first_word(text) for text, _ in texts] == [word for _, word in texts]
