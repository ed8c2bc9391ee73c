"""The runner of the soak tests: numbered blocks, each repeatable by its number, that continue after a finding."""

from __future__ import annotations

import argparse
import math
import sys
import time
import traceback
from collections.abc import Callable, Sequence

from tests.soak import report


class NoMoreBlocks(Exception):  # noqa: N818 - not an error
    """Raised by a block whose number is behind the last."""


def run_blocks(
    description: str, unit: str, default: int, block: Callable[[int], int], parents: Sequence[argparse.ArgumentParser] = ()
) -> None:
    """Run `block(seed)`, which returns how many units it has done, until --count units are done or --minutes are over.

    An error in a block is a finding: it is printed with the seed that repeats it, and the next block is run. Exits with code 1 if
    there are findings. The result of more than one block is written into the manual.
    """
    parser = argparse.ArgumentParser(description=description, parents=list(parents))
    parser.add_argument("--count", type=int, default=default, help=f"{unit} in all; default {default:,}")
    parser.add_argument("--seed", type=int, default=0, help="the first block; default 0")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no block after so many; default: no limit")
    options = parser.parse_args()
    seed, done, findings, begun, tested = options.seed, 0, list[int](), time.monotonic(), report.commit()
    try:
        while done < options.count and time.monotonic() - begun < options.minutes * 60:
            try:
                done += block(seed)
            except NoMoreBlocks:
                break
            except Exception:
                findings.append(seed)
                print(f"\nseed {seed}: a finding; --seed {seed} --count 1 repeats it\n{traceback.format_exc()}", flush=True)
            seed += 1
            minutes = (time.monotonic() - begun) / 60
            print(f"{done:,} {unit} up to seed {seed - 1}, {len(findings)} findings, {minutes:.1f} min", flush=True)
    except KeyboardInterrupt:
        print(f"stopped; --seed {seed} goes on", flush=True)
    seconds = time.monotonic() - begun
    print(f"{done:,} {unit} in {seconds:,.0f} s, findings with the seeds {findings or 'none'}")
    module = sys.modules["__main__"].__spec__
    if module is not None and seed > options.seed + 1:  # one block only repeats a finding
        report.write(module.name.rpartition(".")[2], f"{done:,} {unit}", seconds, range(options.seed, seed), findings, tested)
    sys.exit(1 if findings else 0)
