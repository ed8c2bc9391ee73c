"""Trains with a number that becomes NaN, and ends in one of many ways: in a process of its own for each line of standard input.

A line is a way to end, where `record` is, what becomes NaN, and the folder. The answer is the status of the process.
"""

import os
import signal
import sys
import warnings
from contextlib import nullcontext

import torch

from tui_gru.capture.record import record

torch.set_num_threads(1)
torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)  # imports what an optimizer needs, once for every fork
FATAL, STEPS = 35, 39


def train(way, nan, recorder):
    model, optimizer = recorder.model, recorder.optimizer
    for number in range(STEPS):
        if nan == "weights" and number == FATAL:
            with torch.no_grad():
                model.weight_hh_l0[0, 0] = torch.nan
        optimizer.zero_grad()
        out, _ = model(torch.randn(5, 2, 3))
        loss = out.pow(2).mean()
        if nan == "loss" and number >= FATAL:
            loss = loss + (out - out).sqrt().sum()  # finite, with a gradient that is not
        if nan == "loss" and number == FATAL and way != "anomaly":
            loss = loss * torch.nan
        if number >= FATAL:
            if way == "break":
                break
            if way == "raise":
                raise ArithmeticError("the loss is not finite")
            if way == "continue":
                continue
            if way == "exit":
                sys.exit(3)
            if way in ("SIGINT", "SIGTERM", "SIGHUP"):
                os.kill(os.getpid(), getattr(signal, way))
            if way == "worker" and number == FATAL:
                end_a_worker(model)
        with torch.autograd.set_detect_anomaly(way == "anomaly"):
            loss.backward()
        if number >= FATAL and way == "raise after backward":
            raise ArithmeticError("the loss is not finite")
        optimizer.step()
        if number >= FATAL and way == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        recorder.step(loss)


def end_a_worker(model):
    """Fork a process, which has the hooks and the handlers of this one, and end it as a DataLoader ends its workers."""
    reading, writing = os.pipe()
    worker = os.fork()
    if not worker:
        model(torch.full((5, 2, 3), torch.nan))
        os.write(writing, b"computed")
        signal.pause()
    os.read(reading, 100)
    os.kill(worker, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == -signal.SIGTERM


def run(way, where, nan, folder):
    model = torch.nn.GRU(3, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recorder = record(folder, model, optimizer, every=10, last=8)
    recorder.model, recorder.optimizer = model, optimizer
    with recorder if where == "with" else nullcontext():
        train(way, nan, recorder)
    if where == "close":
        recorder.close()


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if not child:
            warnings.simplefilter("ignore")
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup ignores
            sys.stderr.flush()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            run(*line.rstrip().split(" | "))
            break
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
