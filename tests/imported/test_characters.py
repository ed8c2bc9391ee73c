"""A character model from a file, with its head and a text: a normal run that begins with the weights of the file."""

import numpy as np
import pytest
import torch
from torch import nn

import tui_gru
from tests.rounding import of_session
from tui_gru import Session, TuiGruError

TEXT = "the cat sat on the mat; the rat sat on the cat. "
VOCABULARY = "tha c" + "".join(sorted(set(TEXT) - set("tha c")))
V, H, D, T, B = len(VOCABULARY), 6, 3, 4, 2


class Characters(nn.Module):
    def __init__(self, embedding=True, layers=2):
        super().__init__()
        self.embed = nn.Embedding(V, D) if embedding else nn.Identity()
        self.rnn = nn.GRU(D if embedding else V, H, layers)
        self.fc = nn.Linear(H, V)

    def forward(self, ids, h=None):
        x = self.embed(ids) if isinstance(self.embed, nn.Embedding) else nn.functional.one_hot(ids, V).float()
        out, h = self.rnn(x, h)
        return self.fc(out), h


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(6)
    model = Characters()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "model.pt")
    return tmp_path / "model.pt", model


def opened(path, **options):
    return tui_gru.load(path, **{"head": "fc", "text": TEXT, "vocabulary": VOCABULARY, "seq_length": T, "batch_size": B} | options)


def test_it_goes_on_to_predictions_and_the_loss(model):
    path, module = model
    s = opened(path, embedding="embed")
    ids = torch.tensor([VOCABULARY.index(char) for char in TEXT])
    s.step("batch")
    x = torch.tensor(np.stack([[VOCABULARY.index(char) for char in s.value("char", t=t)] for t in range(T)]))
    y = torch.tensor(np.stack([[VOCABULARY.index(char) for char in s.value("target", t=t)] for t in range(T)]))
    logits, _ = module(x)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())
    assert abs(s.loss - loss.item()) < of_session(s)
    assert np.abs(s.value("logits", t=2) - logits[2].detach().numpy()).max() < of_session(s)
    assert len(ids) == len(s.config.text)
    assert s.explain("Uz_l0", (0, 1)).derivation.note == "a weight of the file that was opened"


def test_it_is_trained_on_as_torch_trains_it(model):
    path, module = model
    s = opened(path, embedding="embed", optimizer="sgd", learning_rate=0.1, clip=0.0)
    s.learning = True
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    h = None
    for _ in range(4):
        s.step("batch")
        x = torch.tensor(np.stack([[VOCABULARY.index(char) for char in s.value("char", t=t)] for t in range(T)]))
        y = torch.tensor(np.stack([[VOCABULARY.index(char) for char in s.value("target", t=t)] for t in range(T)]))
        optimizer.zero_grad()
        logits, h = module(x, None if h is None else h.detach())
        nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten()).backward()
        optimizer.step()
    ours, theirs = s.parameter("Uz_l1"), module.rnn.weight_hh_l1[H : 2 * H].T.detach().numpy()
    assert np.abs(ours - theirs).max() < of_session(s)
    assert np.abs(s.parameter("E") - module.embed.weight.detach().numpy()).max() < of_session(s)
    assert np.abs(s.parameter("Wy") - module.fc.weight.T.detach().numpy()).max() < of_session(s)
    assert s.check().agrees


def test_it_is_sampled_from(model):
    path, module = model
    s = opened(path, embedding="embed")
    said, h = "th", None
    ids = torch.tensor([[VOCABULARY.index(char)] for char in said])
    for _ in range(12):
        logits, h = module(ids, h)
        ids = logits[-1].argmax(-1)[None]
        said += VOCABULARY[int(ids)]
    assert s.sample("th", 12, temperature=0) == said


def test_it_is_saved_and_opened_as_any_other(model, tmp_path):
    s = opened(model[0], embedding="embed")
    s.learning = True
    s.step("batch", 3)
    s.save(tmp_path / "s.tui-gru")
    again = Session.open(tmp_path / "s.tui-gru")
    assert again.position == s.position
    assert np.array_equal(again.parameter("Uz_l1"), s.parameter("Uz_l1"))
    again.seek(0)
    s.seek(0)
    assert np.array_equal(again.parameter("E"), s.parameter("E"))


def test_characters_may_be_read_one_hot(tmp_path):
    torch.manual_seed(1)
    model = Characters(embedding=False, layers=1)
    torch.save(model.state_dict(), tmp_path / "m.pt")
    s = opened(tmp_path / "m.pt")
    s.step("batch")
    assert s.config.embedding == 0
    assert np.array_equal(s.parameter("Wz"), model.rnn.weight_ih_l0[H : 2 * H].T.detach().numpy())
    assert s.loss is not None


REFUSED = {
    "no text": ({"text": None}, "predictions need a head of the file, and a text"),
    "no head": ({"head": None}, "predictions need a head of the file"),
    "another head": ({"head": "rnn.weight_hh_l0", "embedding": "embed"}, "different tokens, and its head predicts"),
    "no such head": ({"head": "out"}, "there is no tensor 'out' in the file"),
    "no embedding": ({}, "name its table with embedding"),
    "another vocabulary": ({"embedding": "embed", "vocabulary": "abc"}, "the vocabulary has 3 characters, and the model"),
    "a character it does not know": ({"embedding": "embed", "text": TEXT + "Q" * 9}, "'Q'"),
    "inputs as well": ({"inputs": np.zeros((2, 2, 2))}, "inputs and text are both given"),
    "a first state": ({"h0": np.zeros((2, 2, 2))}, "h0 is for a run on inputs; a run on a text begins with zero"),
    "a size of the file": ({"embedding": "embed", "hidden_size": 7}, "hidden_size is given by the file; remove the option"),
    "layers of the file": ({"embedding": "embed", "layers": 7}, "layers is given by the file; remove the option"),
    "a bias": ({"head": "fc.bias"}, "a matrix is needed"),
    "an unknown option": ({"embedding": "embed", "colour": 1}, "unknown option 'colour'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(model, what):
    options, reason = REFUSED[what]
    with pytest.raises(TuiGruError, match=reason) as caught:
        opened(model[0], **options)
    assert "\n" not in str(caught.value)


def test_options_of_a_text_need_one(model):
    with pytest.raises(TuiGruError, match="seq_length is for a run on a text; give a head and a text as well"):
        tui_gru.load(model[0], seq_length=3)
    with pytest.raises(TuiGruError, match="init file needs a model file"):
        Session(init="file")


def test_a_vocabulary_that_is_assumed_is_named(model):
    path, _ = model
    s = tui_gru.load(path, head="fc", embedding="embed", text=TEXT, seq_length=T, batch_size=B)
    assert s.notice == (
        "the vocabulary is assumed to be the characters of the text, in the order of their code points: "
        + "".join(sorted(VOCABULARY))
    )
    assert opened(path, embedding="embed").notice == ""


@pytest.mark.parametrize(
    ("of_gru", "of_head", "named"), [(False, False, "the GRU and the head"), (False, True, "the GRU"), (True, False, "the head")]
)
def test_biases_that_the_file_does_not_have_are_named(tmp_path, of_gru, of_head, named):
    """Training moves them from 0, which the training of the model itself never does."""
    size = len(VOCABULARY)
    parts = {"rnn": torch.nn.GRU(size, 3, bias=of_gru), "fc": torch.nn.Linear(3, size, bias=of_head)}
    torch.save(torch.nn.ModuleDict(parts).state_dict(), tmp_path / "m.pt")
    s = tui_gru.load(tmp_path / "m.pt", head="fc", text=TEXT, vocabulary=VOCABULARY, seq_length=T, batch_size=B)
    assert s.notice == f"in the file there are no biases of {named}; here they begin at 0, and training changes them"


def test_a_head_may_be_a_tensor_of_a_script(model):
    path, module = model
    s = opened(path, embedding=module.embed.weight, head=module.fc.weight)
    assert np.array_equal(s.parameter("Wy"), module.fc.weight.detach().numpy().T)
