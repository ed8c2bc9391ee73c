"""A model of tokens longer than a character, opened from a file, with its vocabulary in another file."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import tui_gru
from tests.rounding import of_session
from tui_gru import Session, TuiGruError
from tui_gru.imported.numbers import in_order, read_vocabulary

TEXT = "the cat sat on the mat and the dog sat on the log . " * 4
WORDS = ["<unk>", "the", "cat", "sat", "on", "mat", "and", "dog", "log", "."]
IDS = np.array([WORDS.index(word) for word in TEXT.split()])
V, H, D, T, B = len(WORDS), 6, 3, 4, 2


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.fc = nn.Embedding(V, D), nn.GRU(D, H), nn.Linear(H, V)

    def forward(self, ids, h=None):
        out, h = self.rnn(self.embed(ids), h)
        return self.fc(out), h


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(6)
    model = Words()
    torch.save(model.state_dict(), tmp_path / "words.pt")
    (tmp_path / "words.txt").write_text("\n".join(WORDS) + "\n")
    np.save(tmp_path / "ids.npy", IDS)
    return tmp_path / "words.pt", model


def opened(path, **options):
    return tui_gru.load(path, **{"head": "fc", "embedding": "embed", "seq_length": T, "batch_size": B} | options)


def runs(path):
    """The same run from a text with a file of tokens, from a text with a list, and from token ids."""
    folder = path.parent
    yield opened(path, text=TEXT, tokens=folder / "words.txt")
    yield opened(path, text=TEXT, vocabulary=WORDS)
    yield opened(path, inputs=folder / "ids.npy", vocabulary={word: i for i, word in enumerate(WORDS)})
    yield opened(path, inputs=IDS[:, None], tokens=folder / "words.txt")


def test_predictions_and_the_loss_are_those_of_torch(model):
    path, module = model
    for s in runs(path):
        s.step("batch")
        chars, targets = (np.stack([s.value(name, t=t) for t in range(T)]) for name in ("char", "target"))
        x, y = (torch.tensor([[WORDS.index(word) for word in row] for row in words]) for words in (chars, targets))
        logits, _ = module(x)
        assert abs(s.loss - nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten()).item()) < of_session(s)
        assert np.abs(s.value("logits", t=2) - logits[2].detach().numpy()).max() < of_session(s)
        assert s.config.text == tuple(TEXT.split())


def test_it_is_sampled_from_and_trained_on(model):
    path, module = model
    s = opened(path, text=TEXT, vocabulary=WORDS, learning_rate=0.05)
    said, h = ["the", "cat"], None
    ids = torch.tensor([[WORDS.index(word)] for word in said])
    for _ in range(12):
        logits, h = module(ids, h)
        ids = logits[-1].argmax(-1)[None]
        said.append(WORDS[int(ids)])
    assert s.sample("the cat", 12, temperature=0) == " ".join(said)
    s.learning = True
    s.step("epoch", 40)
    assert s.loss < 0.3
    assert s.sample("the cat", 4, temperature=0) == "the cat sat on the mat"
    assert s.check().agrees


def test_token_ids_without_a_vocabulary_are_their_own_names(model):
    s = opened(model[0], inputs=IDS)
    assert s.config.vocabulary == "0123456789"
    s.step("batch")
    assert list(s.value("char")) == [str(IDS[row * s.config.num_batches * T + T - 1]) for row in range(B)]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_phoneme_model_that_people_have_trained(installed, g2p):
    """The decoder of g2p-en with its own embedding, head and 74 phonemes: its states are those of the package's own code."""
    path = installed("g2p_en") / "checkpoint20.npz"
    word = "<s> AE2 K T IH0 V EY1 SH AH0 N IH0 S T </s>"
    s = tui_gru.load(path, "dec", head="fc_w", embedding="dec_emb", text=word, vocabulary=g2p.phonemes, batch_size=1, seq_length=13)
    s.step("batch")
    h = np.zeros((1, 256), np.float32)
    for t, phoneme in enumerate(word.split()[:-1]):
        assert s.value("char", t=t)[0] == phoneme
        h = g2p.grucell(g2p.dec_emb[[g2p.p2idx[phoneme]]], h, g2p.dec_w_ih, g2p.dec_w_hh, g2p.dec_b_ih, g2p.dec_b_hh)
        logits = h @ g2p.fc_w.T + g2p.fc_b
        assert np.abs(s.value("logits", t=t) - logits).max() < of_session(s) * np.abs(logits).max()
    assert s.sample("<s>", 4, temperature=0).startswith("<s> ")


@pytest.mark.parametrize(
    "content",
    [
        "the\ncat\nsat",
        "the\r\ncat\r\nsat\r\n",
        "\ufeffthe\ncat\nsat\n",
        json.dumps(["the", "cat", "sat"]),
        json.dumps({"cat": 1, "the": 0, "sat": 2}, indent=2),
        json.dumps({"version": "1.0", "model": {"vocab": {"the": 0, "cat": 1}}, "added_tokens": [{"id": 2, "content": "sat"}]}),
    ],
)
def test_files_of_tokens(tmp_path, content):
    (tmp_path / "v").write_text(content)
    assert read_vocabulary(tmp_path / "v") == ["the", "cat", "sat"]


def test_brackets_are_tokens_like_others(tmp_path):
    (tmp_path / "v").write_text("[\n]\n{\nthe\n")
    assert read_vocabulary(tmp_path / "v") == ["[", "]", "{", "the"]
    (tmp_path / "v").write_text("[PAD]\n[UNK]\n")
    assert read_vocabulary(tmp_path / "v") == ["[PAD]", "[UNK]"]
    assert in_order(("a", " ", "\n")) == ["a", " ", "\n"]


REFUSED = {
    "an empty line": (b"the\n\ncat\n", "token 2 is '', and no text"),
    "a token twice": (b"the\ncat\nthe\n", "the occurs twice, as token 1 and 3"),
    "not UTF-8": (b"the\n\xff\n", "is not UTF-8 at byte 4"),
    "an index twice": (b'{"the": 0, "cat": 0}', "has the index 0, and 1 is expected"),
    "a gap": (b'{"the": 0, "cat": 2}', "token cat has the index 2, and 1 is expected: the indices are 0 to 1"),
    "an index that is none": (b'{"the": 0, "cat": "1"}', "is expected"),
    "numbers": (b"[1, 2]", "token 1 is 1, and no text"),
    "an object of objects": (b'{"the": {}}', "is expected"),
    "nothing": (b"", "token 1 is ''"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_files_that_are_none_are_refused(tmp_path, what):
    content, message = REFUSED[what]
    (tmp_path / "v").write_bytes(content)
    with pytest.raises(TuiGruError) as caught:
        read_vocabulary(tmp_path / "v")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(TuiGruError, match="check the name"):
        read_vocabulary(tmp_path / "none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": TEXT, "vocabulary": WORDS[:-1]}, "the vocabulary has 9 tokens, and the model 10"),
        ({"text": TEXT, "vocabulary": WORDS, "tokens": "words.txt"}, "tokens and vocabulary are both given; keep one of them"),
        ({"text": TEXT, "inputs": IDS}, "inputs and text are both given; keep one of them"),
        ({"text": "the cow", "vocabulary": WORDS}, "no token of the vocabulary begins at character 5"),
        ({"inputs": IDS + 1}, "the token ids go from 2 to 10, and the model has 0 to 9"),
        ({"inputs": IDS * 1.0}, r"token ids, whole numbers one after the other \(N\), not float64"),
        ({"inputs": np.zeros((3, 4), int)}, r"not int64 \(3, 4\)"),
        ({"text": TEXT, "vocabulary": 3}, "3 is not a list of tokens"),
        ({"head": None, "tokens": "words.txt"}, "give a head and a text as well"),
    ],
)
def test_what_does_not_fit_is_refused(model, options, message):
    with pytest.raises(TuiGruError, match=message) as caught:
        opened(model[0], **options)
    assert "\n" not in str(caught.value)


def test_it_is_saved(model, tmp_path):
    s = opened(model[0], text=TEXT, vocabulary=WORDS)
    s.step("batch", 2)
    s.save(tmp_path / "s.tui-gru")
    again = Session.open(tmp_path / "s.tui-gru")
    assert again.config.vocabulary == tuple(WORDS)
    assert np.array_equal(again.parameter("E"), s.parameter("E"))
