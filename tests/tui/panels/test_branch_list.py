"""The list of branches: the tree that it draws, and the actions of enter, r and d."""

from __future__ import annotations

from functools import cache

import pytest

from tests.tui.test_main_screen import driving, driving_app
from tests.tui.test_surviving import command
from tui_gru.debugger.timeline import BranchInfo
from tui_gru.session.session import Session
from tui_gru.session.snapshot import Snapshot
from tui_gru.tui.app import make_app
from tui_gru.tui.headless import headless
from tui_gru.tui.panel import View
from tui_gru.tui.panels.lists import BranchList, tree
from tui_gru.tui.theme import ASCII, UNICODE


@cache
def branched() -> Snapshot:
    """The snapshot of main, two branches of it, and a branch of one of these."""
    session = Session()
    session.learning = True
    session.step("batch", 30)
    session.seek("e4 b2 t3")
    session.edit("Wz", (0, 1), 0.5)
    session.step("batch", 20)
    session.seek("e6 b1 t1")
    session.learning_rate = 0.5
    session.step("batch", 40)
    session.switch("main")
    session.seek("e2 b3 t2")
    session.edit("h", (0, 0), 0.5)
    session.step("op")
    session.switch("main~1")
    session.rename_branch("main~2", "faster-but-with-a-name-that-is-long")
    return session.snapshot()


def test_the_tree_of_branches(board, snap_compare):
    panel = BranchList()
    app = board(panel)
    app.prepare = lambda: (panel.show(branched(), View()), panel.focus())
    assert snap_compare(app, terminal_size=(100, 12))


@pytest.mark.parametrize("size", [(96, 10), (56, 7), (34, 6)])
def test_texts(content, snapshot, size):
    assert content(BranchList(), branched(), *size).described() == snapshot


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
async def test_nothing_is_wider_than_the_panel(board, written, glyphs):
    panel = BranchList()
    app = board(panel, glyphs=glyphs)
    app.prepare = lambda: panel.show(branched(), View())
    async with headless(app) as pilot:
        for width in (200, 100, 64, 63, 50, 40, 30, 20, 8, 1):
            await pilot.resize_terminal(width, 12)
            said = written(panel)
            assert all(len(line) <= max(width - 4, 0) for line in said.splitlines()), width
            assert not panel.virtual_size.width or panel.virtual_size.width <= max(width - 4, 0), width
            assert said.isascii() or glyphs is UNICODE, width
            if width >= 64:
                assert "faster-but-with-a-name-that-is-long"[: min(35, width - 60)] in said, width


def test_a_branch_comes_after_the_one_it_has_left_in_the_order_of_time():
    forks = [
        BranchInfo("main", None, 0, 90, 1.0), BranchInfo("b", "main", 50, 60, 1.0), BranchInfo("a", "main", 10, 20, 1.0),
        BranchInfo("c", "a", 15, 30, None), BranchInfo("d", "a", 12, 30, None),
    ]  # fmt: skip
    assert [(twig.stem, twig.fork.name) for twig in tree(forks)] == [
        ("", "main"), ("├─ ", "a"), ("│  ├─ ", "d"), ("│  └─ ", "c"), ("└─ ", "b"),
    ]  # fmt: skip


# On the screen


async def forked(d):
    await d.type("l", "3n", "2N")
    await command(d, "set Wz[0,1] 0.5")
    await d.type("4n", "J")
    assert d.session.branches == ("main", "main~1")
    return d.screen.query_one(BranchList)


async def test_enter_goes_to_a_branch_and_j_and_escape_leave_the_list():
    async with driving() as d:
        panel = await forked(d)
        assert panel.chosen == d.session.branch == "main~1"
        await d.type("up", "enter")
        assert d.session.branch == "main"
        assert panel.has_focus
        await d.type("down", "down", "down", "enter")
        assert d.session.branch == "main~1"
        await d.type("home", "enter", "end")
        assert (d.session.branch, panel.chosen) == ("main", "main~1")
        await d.type("n", "J")
        assert not d.screen.query(BranchList)
        await command(d, "branches")
        assert d.screen.query_one(BranchList).chosen == "main"
        await d.type("escape")
        assert not d.screen.query(BranchList)


async def test_r_renames_on_the_command_line():
    async with driving() as d:
        panel = await forked(d)
        await d.type("r", *"warm", "enter")
        assert d.session.branches == ("main", "warm")
        assert panel.has_focus
        assert panel.chosen == d.session.branch == "warm"
        await d.type("r", "escape", "up", "enter")
        assert d.session.branch == "main"
        await command(d, "rename warm main")
        assert "there is a branch 'main' already" in d.says
        await command(d, "rename warm")
        assert "rename main~1 warmer" in d.says


async def test_d_deletes_when_y_says_so():
    async with driving() as d:
        panel = await forked(d)
        await d.type("d")
        assert "main~1 is the current branch" in d.says
        await d.type("up", "enter", "down", "d")
        assert d.says == "delete main~1 with its 4 batches? This cannot be undone. y/n"
        await d.type("n")
        assert (d.says, d.session.branches) == ("main~1 is not deleted", ("main", "main~1"))
        where = d.session.position
        await d.type("d", "s")  # only y confirms; any other key does nothing else
        assert (d.session.position, d.session.branches) == (where, ("main", "main~1"))
        await d.type("d", "y")
        assert (d.says, d.session.branches) == ("main~1 is deleted", ("main",))
        assert panel.chosen == "main"


async def test_the_command_asks_too():
    async with driving() as d:
        await forked(d)
        await d.type("escape")
        await command(d, "branch main")
        await command(d, "delete-branch main~7")
        assert "there is no branch 'main~7'; did you mean main~1 or main?" in d.says
        await command(d, "delete-branch main~1")
        assert "y/n" in d.says
        await d.type("y")
        assert d.session.branches == ("main",)


@pytest.mark.parametrize(
    ("main", "left_at", "on_it", "of_main", "of_branch"),
    [
        (("batch", 3), "e1 b2 t1", ("batch", 2), "its 3 batches", "its 2 batches"),
        (("batch", 1), "e1 b1 t2", ("op", 2), "its batch", "its part of a batch"),
        (("timestep", 2), "e1 b1 t1", ("batch", 1), "its part of a batch", "its part of a batch"),
        (("epoch", 400), "e1 b2", ("batch", 1), "its 1,200 batches", "its batch"),
        (("batch", 2), "e1 b1 t3", ("op", 0), "its 2 batches", "nothing run on it"),
    ],
)
async def test_the_question_counts_every_batch_that_was_run_on_a_branch(main, left_at, on_it, of_main, of_branch):
    """Also the first one, and those that are cut by its beginning or by its newest place."""
    session = Session()
    session.learning = True
    session.step(*main)
    session.seek(left_at)
    session.edit("Wz", (0, 1), 0.5)
    session.step(*on_it)
    async with driving_app(make_app(session)) as d:
        await command(d, "delete-branch main")
        assert f"delete main with {of_main}? " in d.says
        await d.type("n")
        await command(d, "branch main")
        await command(d, "delete-branch main~1")
        assert f"delete main~1 with {of_branch}? " in d.says


async def test_a_click_singles_out_a_branch():
    async with driving() as d:
        panel = await forked(d)
        assert panel.chosen == "main~1"
        await d.pilot.click(panel, offset=(8, 2))
        assert panel.chosen == "main"


async def test_a_list_that_is_long_keeps_the_one_singled_out_in_view():
    async with driving((80, 24)) as d:
        await d.type("5n")
        for i in range(30):
            d.session.seek(i + 1)
            d.session.edit("Wz", (0, 0), float(i))
            d.session.switch("main")
        d.screen.show_now()
        await d.type("J", "end")
        panel = d.screen.query_one(BranchList)
        assert len(d.session.branches) == 31
        await d.pilot.pause()
        assert panel.scroll_offset.y + panel.scrollable_content_region.height == 32
        await d.type("home")
        assert panel.scroll_offset.y == 0
