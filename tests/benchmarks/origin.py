"""Time to open a derivation and draw it: on the tutorial, on a large model, and far back in time.

`python -m tests.benchmarks.origin`
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from tests.screenshots import TOPICS
from tui_gru import Session
from tui_gru.debugger.derivation import first_opened, laid_out

REPEATS = 30
LARGE = {"text": TOPICS["text"], "hidden_size": 256, "batch_size": 32, "seq_length": 64}
VOCABULARY = "".join(map(chr, range(32, 127))) + "\n"


def opened(session: Session, name: str, index: tuple[int, ...]) -> Callable[[], object]:
    def open_it() -> object:
        root = session.explain(name, index)
        return laid_out(root, first_opened(root))

    return open_it


def milliseconds(act: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        act()
        times.append(time.perf_counter() - begun)
    return 1000 * statistics.median(times)


def learning(**options: object) -> Session:
    session = Session(**options)
    session.learning = True
    return session


def main() -> None:
    tutorial = learning()
    tutorial.step("batch", 5)
    large = learning(vocabulary=VOCABULARY, **LARGE)
    large.step("batch", 3)
    for title, session in (("tutorial", tutorial), ("H 256, B 32, T 64, V 96", large)):
        for name in ("h", "dh", "y_hat", "Wz", "dUh", "dWy", "loss"):
            index = (0,) * np.ndim(session.value(name))
            print(f"{title:24} {name:6} {milliseconds(opened(session, name, index)):8.2f} ms")
    tutorial.learning = False
    tutorial.step("batch", 1000)
    root = tutorial.explain("Wz", (3, 0))
    assert root.derivation.tick is not None
    print(f"an SGD step 1,000 batches back {milliseconds(opened(tutorial, 'Wz', (3, 0))):8.2f} ms")
    begun = time.perf_counter()
    fresh = tutorial.explain("Wz", (3, 0))
    laid_out(fresh, frozenset({(1,)}))
    print(f"the same with its step opened  {1000 * (time.perf_counter() - begun):8.2f} ms")


if __name__ == "__main__":
    main()
