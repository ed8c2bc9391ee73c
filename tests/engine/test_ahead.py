"""Items computed ahead in a thread are those that are computed directly, and errors are raised when the item is requested."""

import threading

from tui_gru.engine.training import Prefetch


def test_what_was_computed_ahead_is_taken_once():
    done = []
    ahead = Prefetch()
    assert ahead.take(3) is None
    ahead.begin(3, lambda: done.append(threading.current_thread().name) or "item 3")
    assert ahead.take(2) is None
    assert ahead.take(3) == "item 3"
    assert ahead.take(3) is None
    assert done == ["tui-gru-prefetch"]


def test_one_is_computed_at_a_time():
    go_on, done = threading.Event(), []
    ahead = Prefetch()
    ahead.begin(3, lambda: done.append(3) or (go_on.wait(10) and 3))
    ahead.begin(4, lambda: done.append(4))
    go_on.set()
    assert ahead.take(3) == 3
    assert done == [3]


def test_the_same_is_not_computed_twice():
    done = []
    ahead = Prefetch()
    for _ in range(3):
        ahead.begin(3, lambda: done.append(3) or 3)
    assert ahead.take(3) == 3
    assert done == [3]


def test_an_error_is_left_to_whoever_computes_it_again():
    ahead = Prefetch()
    ahead.begin(3, lambda: 1 // 0)
    assert ahead.take(3) is None
