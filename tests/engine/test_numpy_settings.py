"""Results do not depend on the number of threads of NumPy's BLAS library; that number and NumPy's warnings are restored."""

import json
import os
import subprocess
import sys
import threading

import numpy as np

from tui_gru.engine.weights import NUMPY_SETTINGS

PROGRAM = """
import json, os, threading
import numpy
import tui_gru
from threadpoolctl import threadpool_info, threadpool_limits
from tui_gru.engine.weights import NUMPY_SETTINGS

if "OPENBLAS_NUM_THREADS" not in os.environ:
    threadpool_limits(2, user_api="blas")

def threads():
    return max(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")

inside, done = threading.Event(), threading.Event()

def stay():
    with NUMPY_SETTINGS:
        inside.set()
        done.wait()

seen = [threads()]
with NUMPY_SETTINGS:
    other = threading.Thread(target=stay)
    other.start()
    inside.wait()
    with NUMPY_SETTINGS:
        seen.append(threads())
    seen.append(threads())
seen.append(threads())  # the other one is still inside
done.set()
other.join()
seen.append(threads())
for _ in range(2):
    alone = threading.Thread(target=stay)  # after another thread, which still lives, has limited them
    inside.clear()
    done.clear()
    alone.start()
    inside.wait()
    seen.append(threads())
    done.set()
    alone.join()
    seen.append(threads())
session = tui_gru.Session(text="to be or not to be " * 40, hidden_size=96, batch_size=16, seq_length=8)
session.learning = True
session.step("batch", 3)
print(json.dumps([seen, float(session.value("loss")), threads()]))
"""


def outcome(threads: str | None) -> list[object]:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    environment |= {"OPENBLAS_NUM_THREADS": threads} if threads else {}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=environment)
    found: list[object] = json.loads(done.stdout)
    return found


def test_a_library_user_gets_the_numbers_of_one_thread_and_keeps_the_threads():
    seen, loss, after = outcome(None)
    assert (seen, after) == ([2, 1, 1, 1, 2, 1, 2, 1, 2], 2)
    assert loss == outcome("1")[1]


def test_numbers_that_are_not_finite_give_no_warnings_inside_in_this_thread_alone():
    def errors():
        return np.geterr()["divide"]

    before, others = errors(), []
    with NUMPY_SETTINGS:
        with NUMPY_SETTINGS:
            pass
        inside = errors()
        other = threading.Thread(target=lambda: others.append(errors()))
        other.start()
        other.join()
    assert (inside, errors(), others) == ("ignore", before, [before])
    assert before != "ignore"
