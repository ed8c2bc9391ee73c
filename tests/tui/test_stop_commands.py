"""The `:` line's commands for stops, and the errors that name a column."""

from dataclasses import replace
from itertools import count

import pytest

from tests.tui.test_main_screen import driving
from tui_gru.debugger.stops import Breakpoint, Watch, command_of
from tui_gru.errors import TuiGruError
from tui_gru.tui.keys import execute

BREAKS = {
    "break h_tilde": Breakpoint(1, "h_tilde"),
    "break h\u0303": Breakpoint(1, "h_tilde"),
    "break ①": Breakpoint(1, "term1"),
    "break y\u0302": Breakpoint(1, "y_hat"),
    "break o": Breakpoint(1, "logits"),
    "break dhₜ₋₁": Breakpoint(1, "dh_prev"),
    "b  loss  if  loss < 1 ": Breakpoint(1, "loss", condition="loss < 1"),
    "break if loss < 1": Breakpoint(1, "", condition="loss < 1"),
    "break h hits %5": Breakpoint(1, "h", hits="%5"),
    "break h hits >3 if any(h > 0.9)": Breakpoint(1, "h", condition="any(h > 0.9)", hits=">3"),
    "break loss log {loss:.3f} if you like, hits or log": Breakpoint(1, "loss", log="{loss:.3f} if you like, hits or log"),
    "break y_hat if t == 1 hits >1 log ŷ {y_hat[0]}": Breakpoint(
        1, "y_hat", condition="t == 1", hits=">1", log="ŷ {y_hat[0]}"
    ),
}  # fmt: skip


WATCHES = {
    "watch loss": Watch(1, "loss"),
    "w max(abs(h))  stop": Watch(1, "max(abs(h))", stops=True),
    "watch h[0, 1] > 0.5 stop": Watch(1, "h[0, 1] > 0.5", stops=True),
}


async def test_break():
    async with driving((80, 24)) as d:
        for first, (typed, made) in zip(count(1, 2), BREAKS.items(), strict=False):  # no number is used again
            execute(d.screen, typed)
            assert d.session.stops.breakpoints == (replace(made, id=first),), typed
            execute(d.screen, command_of(made))
            assert d.session.stops.breakpoints[1] == replace(made, id=first + 1), typed
            execute(d.screen, f"delete {first} {first + 1}")


async def test_watch():
    async with driving((80, 24)) as d:
        for first, (typed, made) in zip(count(1, 2), WATCHES.items(), strict=False):
            execute(d.screen, typed)
            assert d.session.stops.watches == (replace(made, id=first),), typed
            execute(d.screen, command_of(made))
            assert d.session.stops.watches[1].expression == made.expression, typed
            execute(d.screen, f"delete {first} {first + 1}")


#: (a command, where its error is, a part of the message)
MISTAKES = [
    ("break hh", "hh", "no line computes 'hh'; did you mean"),
    ("break h if any(h >> 0.9)", "h >>", "not allowed"),
    ("  :break h if any(hh > 0.9)", "hh", "hh"),
    ("break h if loss = 1", "= 1", "=="),
    ("b h hits 5x", "5x", "hit count"),
    ("break h hits %0", "0", "never stops"),
    ("break h if t == 1 log z {zz}", "zz", "zz"),
    ("break h log {z", "{z", "never closed"),
    ("break h if t == 1 if t == 2", "if t == 2", "twice"),
    ("break h if hits 3", "hits", "nothing follows if"),
    ("watch hh + 1", "hh", "hh"),
    ("watch h[0, 9] +", "+", "ends too early"),
    ("break #1 z", "#1", "watch #1"),
]
#: What else cannot be done, and a part of the message.
REFUSED = {
    "break h if": "nothing follows if",
    "watch": "type an expression to watch",
    "watch stop": "type an expression to watch",
    "delete": "type which",
    "delete 9": "no breakpoint or watch 9",
    "delete q": "no mark q",
    "enable x": "'x' is not the number",
    "mark 1": "letter",
    "jump zz": "no place on this screen has the letters 'zz'",
    "watch #9 loss": "no breakpoint or watch 9",
    "undo 3": "undo takes no argument; leave out '3'",
    "quit now": "quit takes no argument",
    "row 2": "row takes no argument",
}


async def test_an_error_names_the_column_of_what_was_typed():
    async with driving((80, 24)) as d:
        d.session.watch("loss")
        for typed, at, said in MISTAKES:
            with pytest.raises(TuiGruError, match=r"^column") as caught:
                execute(d.screen, typed)
            assert said in str(caught.value), typed
            column = int(str(caught.value).split(":")[0].split()[1])
            assert column - 1 in range(typed.index(at), typed.index(at) + len(at) + 1), (typed, str(caught.value))
            assert d.session.stops.breakpoints == (), typed
            assert len(d.session.stops.watches) == 1, typed


async def test_what_cannot_be_done_is_said():
    async with driving((80, 24)) as d:
        for typed, said in REFUSED.items():
            with pytest.raises(TuiGruError, match=said):
                execute(d.screen, typed)


async def test_change_enable_disable_delete():
    async with driving((80, 24)) as d:
        for typed in ("break h", "watch loss", "mark a"):
            execute(d.screen, typed)
        execute(d.screen, "break #1 z if t == 2")
        assert d.session.stops.breakpoints == (Breakpoint(1, "z", condition="t == 2"),)
        execute(d.screen, "watch #2 max(h) stop")
        assert d.session.stops.watches == (Watch(2, "max(h)", stops=True),)
        execute(d.screen, "disable 1 #2")
        assert not any(stop.enabled for stop in d.session.stops.all)
        execute(d.screen, "enable 2")
        assert [stop.enabled for stop in d.session.stops.all] == [False, True]
        execute(d.screen, "delete 1, 2 a")
        assert d.session.stops.all == ()
        assert d.session.marks == ()
