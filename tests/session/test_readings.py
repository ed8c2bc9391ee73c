"""A model file read in another convention, compared with the first reading."""

import numpy as np
import pytest
import torch
from torch import nn

import tui_gru
from tui_gru import Session, TuiGruError
from tui_gru.session.opening import other_reading


@pytest.fixture
def session(tmp_path):
    torch.manual_seed(1)
    gru = nn.GRU(3, 4)
    torch.save(gru.state_dict(), tmp_path / "m.pt")
    s = tui_gru.load(tmp_path / "m.pt", inputs=torch.randn(5, 2, 3))
    s.step("timestep", 3)
    return s


def test_the_four_readings_follow_on_each_other(session):
    first = np.stack([session.config.source.batches[0].weights["Uz"]])
    seen, s = [], session
    for _ in range(4):
        place = s.position
        s = other_reading(s)
        seen.append(s.config.source.reading)
        assert s.position == place
        assert ("(r⊙hₜ₋₁) Uh" in s.program_text()) == (seen[-1][0] == "before")
        assert ("(1 − z)⊙hₜ₋₁" in s.program_text()) == (seen[-1][1] == "takes")
    assert seen == [("before", "keeps"), ("after", "takes"), ("before", "takes"), ("after", "keeps")]
    assert np.array_equal(s.parameter("Uz"), first[0])


def test_what_would_differ_is_compared_with_the_first_reading(session):
    other = other_reading(other_reading(session))
    assert other.notice.startswith("read with reset after, z takes: the output is not the expected one")
    assert other.expected.whole.over_time.max() > 1e-3
    first, again = session, other_reading(other_reading(other))
    first.seek(first.end)
    again.seek(again.end)
    assert np.array_equal(first.value("h"), again.value("h"))
    assert again.expected.whole.worst == 0


def test_other_sessions_have_one_reading_only():
    with pytest.raises(TuiGruError, match="cannot be read in another convention"):
        other_reading(Session())
