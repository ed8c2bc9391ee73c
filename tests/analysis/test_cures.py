"""The first cure that is offered for a planted trouble lowers the loss when the run has it; `tests.soak.cures` plants many more."""

from __future__ import annotations

import pytest

from tests.soak.cures import TROUBLES, outcome

PLANTED = {"a rate raised by hand": 0, "equal first weights": 0, "a clip to nothing": 0}


@pytest.mark.parametrize("trouble", PLANTED)
def test_the_first_cure_helps(trouble):
    result = outcome(len(TROUBLES) * (PLANTED[trouble] + 60) + list(TROUBLES).index(trouble))
    assert result.trouble == trouble
    assert result.was_tried
    assert result.helps, result


def test_an_option_that_the_run_has_is_not_offered():
    """Nothing is wrong with the first weights of a run whose decay holds them down: no cure of the finding is one."""
    result = outcome(len(TROUBLES) * 60 + list(TROUBLES).index("a decay that holds the weights down"))
    assert result.cure == "" or result.helps
