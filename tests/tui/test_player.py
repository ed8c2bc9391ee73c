"""The walk of a session as a page: its moments, its size, and what a browser does with it."""

import asyncio
import base64
import errno
import gc
import gzip
import html
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from unicodedata import combining

import pytest

import tests.chromium
from tests.chromium import Chromium
from tests.tui.test_player_derivations import computed, needs_node
from tui_gru import Session, TuiGruError
from tui_gru.cli.commands import main
from tui_gru.tui import player as module
from tui_gru.tui.app import make_app
from tui_gru.tui.headless import headless, is_keys
from tui_gru.tui.keys import commands_of
from tui_gru.tui.player import COLLECT_OLDER, PAGE, DrawnMoments, Player, Walk, as_of
from tui_gru.tui.terminal import drawn_lines
from tui_gru.tui.theme import UNICODE

HOSTILE = "@DATA@</script><script>window.broken=1</script><b>&amp;\x1b]0;x\x07\u202e\u2066"
LINES = 30


def tutorial(lines=LINES):
    session = Session()
    session.learning = True
    session.step("line", lines)
    return session


def data_of(page):
    packed = re.search(r'<script id="data"[^>]*>([^<]*)</script>', page)[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def unfolded(differences, height):
    now, found = [-1] * height, []
    for changes in differences:
        for row, entry in zip(changes[::2], changes[1::2], strict=True):
            now[row] = entry
        found.append(list(now))
    return found


def texts(data):
    """Return the rows of text of each moment."""
    rows = ["".join(part for part in row if isinstance(part, str)) for row in data["rows"]]
    return [[rows[row] for row in frame] for frame in unfolded(data["frames"], data["size"][1])]


@pytest.fixture(scope="module")
def page():
    session = tutorial()
    session.mark("a", "here <i>it</i> begins")
    player = Player(session, by="line")
    player.draw()
    return player.page()


@pytest.fixture(scope="module")
def data(page):
    return data_of(page)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_in_a_script_ends_the_drawing_and_gives_its_output_back():
    streams, moments = (sys.stdout, sys.stderr), []

    def interrupted(moment, of):
        moments.append(moment)
        if moment == 2:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        Player(tutorial(), by="line").draw(drawn=interrupted)
    assert (sys.stdout, sys.stderr) == streams
    assert len(moments) < LINES
    Player(tutorial(3)).draw()


async def drawn(session, size=module.SIZE):
    app = make_app(session)
    app.glyphs = UNICODE
    async with headless(app, size) as pilot:
        app.screen.say("")
        await pilot.pause()
        return [strip.text for strip in drawn_lines(app.screen)]


async def test_every_moment_is_the_screen_of_the_debugger(data):
    frames = texts(data)
    assert len(frames) == LINES + 1
    session = tutorial()
    session.mark("a", "here <i>it</i> begins")
    for moment in (0, 7, 19, LINES):
        rows = await drawn(Session(state=as_of(session.state, moment)))
        assert any("break here" in row for row in rows) == (moment > 0)
        # The keys below the panels of the debugger are none of the page.
        without = [re.sub(r"(?<=╰─) [^─╯]+ (?=─)", lambda keys: "─" * len(keys[0]), row) for row in rows]
        assert frames[moment][:-1] == without[:-1]
    # The last row has the keys of the page.
    assert {" ".join(frame[-1].split()) for frame in frames} == {"o line s timestep n batch e epoch space play enter explain"}


def test_a_moment_is_as_it_was_when_the_run_came_there(data):
    assert not any("lines back" in row for frame in texts(data) for row in frame)


def arrays_of(page):
    return gzip.decompress(base64.b64decode(re.search(r'<script id="numbers"[^>]*>([^<]*)</script>', page)[1]))


def spots_of(data):
    """Return the numbers of each moment: row, column, width, and the number of the place."""
    frames = unfolded(data["spots"], data["size"][1])
    return [[(y, *spot) for y, row in enumerate(rows) for spot in data["numbers"][row]] for rows in frames]


def check_derivations(page):
    """Compare each number on a frame with the value of its derivation; return how many there are."""
    data, checked = data_of(page), 0
    spots, frames = spots_of(data), texts(data)
    places = sorted({(number, moment) for moment, each in enumerate(spots) for *_, number in each})
    derived = dict(zip(places, computed(data["derive"], arrays_of(page), places), strict=True))
    for moment, frame in enumerate(frames):
        for y, x, width, number in spots[moment]:
            cells = [char for char in frame[y] if not combining(char)]
            shown = "".join(cells[x : x + width]).strip()
            _, value, line, *_, terms = derived[number, moment]
            changes = [term[3] for term in terms if term[0] == 1 and "−=" in line]  # a change is a term of its weight
            if re.fullmatch(r"[+-]?\d\.\d+", shown):  # characters have derivations as well
                digits = len(shown.partition(".")[2])
                values = [float(written.replace("−", "-")) for written in (value, *changes)]
                assert min(abs(each - float(shown)) for each in values) <= 0.51 * 10**-digits
                checked += 1
    return checked


@needs_node
def test_a_number_has_the_derivation_of_what_is_shown(page):
    assert check_derivations(page) > 700


@needs_node
def test_a_number_that_its_line_replaces_has_the_derivation_of_the_old_one():
    session = Session(optimizer="momentum")
    session.learning = True
    session.seek(2 * session.program.ticks)
    player = Player(session, by="line", last=8, theme="ansi-dark")
    player.draw()
    assert check_derivations(player.page()) > 20


def test_a_term_of_an_edited_run_leads_to_the_derivation_of_its_number():
    session = tutorial(1)
    session.edit("z", (0, 0), 0.5)
    session.step("line", 5)
    player = Player(session, by="line", on_telephones=False)
    player.draw()
    derivations = data_of(player.page())["derivations"]
    h = next(each for each in derivations if each[2].startswith("h = ") and each[4])
    assert h[4] == 4  # its line is the fourth
    known = [derivations[term[-1]][0] for term in h[6] if term[-1] is not None]
    assert any(name.startswith("z[") for name in known)
    assert sum(term[0] == 1 for term in h[6]) >= 2


def test_a_reader_is_told_the_line_and_its_numbers(data):
    assert data["words"][0] == ["start", "before the first line"]
    place, line = data["words"][1]
    assert place == "epoch 1 · batch 1 · t 1 · forward"
    assert line.startswith("z = σ(x Wz + hₜ₋₁ Uz + bz): row 1: 0.1791 ")


def test_it_is_dark_and_light(data):
    dark, light = data["grounds"]
    assert int(dark[1][1:3], 16) < 64 < 192 < int(light[1][1:3], 16)
    assert all(len(style) == 5 for style in data["styles"])


def test_most_moments_are_drawn_in_one_theme_only():
    drawn = []
    Player(tutorial(100), by="line", on_telephones=False).draw(drawn=lambda done, total: drawn.append((done, total)))
    assert drawn[-1] == (202, 202)
    assert len(drawn) < 160


def test_the_drawn_moments_are_not_searched_for_cycles():
    before, oldest = gc.get_threshold(), []
    Player(tutorial(2), by="line").draw(drawn=lambda *_: oldest.append(gc.get_threshold()[2]))
    assert set(oldest) == {COLLECT_OLDER[1]}
    assert gc.get_threshold() == before


def test_equal_rows_of_two_moments_are_stored_once():
    kept = []

    async def draw(drawing, *arguments):
        await drawn(drawing, *arguments)
        kept.extend(row for frame in drawing.frames[0] for row in frame)

    drawn = DrawnMoments.draw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DrawnMoments, "draw", draw)
        Player(tutorial(4), by="line", on_telephones=False).draw()
    assert len({id(row) for row in kept}) == len(set(kept)) < len(kept)


def test_one_theme_can_be_chosen():
    player = Player(tutorial(2), by="line", theme="whiteboard")
    player.draw()
    dark, light = data_of(player.page())["grounds"]
    assert dark == light
    with pytest.raises(TuiGruError, match="there is no theme"):
        Player(tutorial(2), theme="no such")


def test_it_is_small():
    sizes = []
    for on_telephones in (False, True):
        player, planned = Player(tutorial(50), by="line", on_telephones=on_telephones), []
        player.draw(lambda walk, size, planned=planned: planned.append((len(walk.ticks), size)))
        sizes.append(len(player.page().encode()))
        ((moments, estimate),) = planned
        assert moments == 51
        assert sizes[-1] / 2 < estimate < sizes[-1] * 2
    assert sizes[0] <= 80_000
    assert sizes[1] <= 4 / 3 * sizes[0]


def test_the_page_is_the_same_each_time_and_the_session_is_left_alone():
    session = tutorial(6)
    session.step("line", -2)
    before = session.state
    pages = []
    for _ in range(2):
        player = Player(session, by="line")
        player.draw()
        pages.append(player.page())
    assert pages[0] == pages[1]
    assert session.state == before
    assert (session.position.tick, session.newest.tick) == (4, 6)


def test_the_moments_are_the_ends_of_steps_and_the_marks():
    session = tutorial()
    ends = [session.step("timestep", 1).tick for session in [session_at(0)] for _ in range(3)]
    assert Walk.to_here(tutorial(27), "timestep").ticks == (0, *ends)
    walk = Walk.to_here(session, "timestep", last=2)
    assert walk.ticks == (27, LINES)
    assert walk.left_out == 3
    session.seek(5)
    session.mark("m", "a mark")
    session.seek(session.newest)
    walk = Walk.to_here(session, "timestep")
    assert walk.ticks == (0, 5, *ends, LINES)
    assert walk.chapters == [(1, "m", "a mark")]


def session_at(tick):
    session = tutorial()
    session.seek(tick)
    return session


def test_a_walk_that_is_too_large_is_refused_with_what_makes_it_smaller():
    session = tutorial(0)
    session.step("epoch", 30)
    with pytest.raises(TuiGruError, match=r"9,181 moments by line.*timestep has 631.*2,000"):
        Walk.to_here(session, "line")
    assert len(Walk.to_here(session, "line", last=2000).ticks) == 2000
    with pytest.raises(TuiGruError, match="hold"):
        Walk.to_here(session, "line", last=2000, size=(1000, 1000))
    for last in (0, "many"):
        with pytest.raises(TuiGruError, match="last"):
            Walk.to_here(session, "line", last=last)
    with pytest.raises(TuiGruError, match="no level"):
        Player(session, by="year")
    for size in ((19, 36), (120, 5)):
        with pytest.raises(TuiGruError, match="the smallest is 20x6"):
            Player(session, size=size)
    Player(session, size=(20, 6))


def test_a_command_over_many_moments_is_a_jump(tmp_path, capsys):
    out = tmp_path / "jump.html"
    assert main(["player", "-x", "l; 2s; 20e; 2o", "--by", "line", "--jump", "100", "-o", str(out)]) == 0
    said = capsys.readouterr().out
    moments = data_of(out.read_text("utf-8"))["words"]
    assert f"{len(moments)} moments" in said
    assert "others are left out" in said
    assert [words[0] for words in moments[-4:]] == [
        "epoch 1 · batch 1 · t 2 · forward",
        "epoch 20 · batch 3 · update",
        "epoch 21 · batch 1 · t 1 · forward",
        "epoch 21 · batch 1 · t 1 · forward",
    ]


def test_hostile_texts_are_text(tmp_path):
    session = Session(text=HOSTILE * 3, hidden_size=2, batch_size=1, seq_length=3)
    session.step("timestep", 2)
    session.mark("a", HOSTILE)
    path = session.player(tmp_path / "hostile.html", by="line")
    page = path.read_text("utf-8")
    assert page.count("<script") == PAGE.read_text("utf-8").count("<script")
    title = html.unescape(re.search("<title>(.*?)</title>", page)[1])
    assert title.startswith("tui-gru · @DATA@</script><script>")
    data = data_of(page)
    assert all(row.isprintable() for frame in texts(data) for row in frame)
    assert data["chapters"][0][2].isprintable()
    assert "</script>" in data["chapters"][0][2]
    assert "window.broken" not in session._repr_html_()[:500] or "<script" not in session._repr_html_()


def test_a_file_that_exists_is_not_overwritten(tmp_path, capsys):
    out = tmp_path / "walk.html"
    out.write_text("mine")
    assert main(["player", "-x", "o", "-o", str(out)]) == 2
    assert "--force" in capsys.readouterr().err
    with pytest.raises(TuiGruError, match="force=True"):
        tutorial(1).player(out)
    assert out.read_text() == "mine"
    assert main(["player", "-x", "o", "--force", "-o", str(out)]) == 0
    assert tutorial(1).player(str(out), force=True) == out
    assert len(data_of(out.read_text("utf-8"))["frames"]) == 2


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "walk.html"
    out.write_text("mine")
    monkeypatch.setattr("tui_gru.disk.os.fsync", full)
    with pytest.raises(TuiGruError, match="cannot be written: No space left on device; write it elsewhere"):
        tutorial(1).player(out, force=True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-x", "bogus 1"], "there is no command 'bogus'"),
        (["-x", "l; go e0"], "an epoch is at least 1"),
        (["-x", "q"], "leaves the debugger"),
        (["-x", "o; §"], "has no meaning"),
        (["-x", "o; run until loss <"], "run until loss <"),
        (["--by", "year"], "--by"),
        (["--last", "0"], "--last"),
        (["--session", "nothing"], "nothing"),
        (["--size", "0x3"], "--size"),
        (["--theme", "no"], "--theme"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, arguments, words):
    assert main(["player", *arguments, "-o", str(tmp_path / "walk.html")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert words in said
    assert not list(tmp_path.iterdir())


def test_the_name_of_the_file_is_checked_first(tmp_path, capsys):
    for name, words in (("walk.txt", ".html"), ("no/walk.html", "no folder"), ("a\0.html", "null byte")):
        assert main(["player", "-o", f"{tmp_path}/{name}"]) == 2
        assert words in capsys.readouterr().err


def test_a_session_of_a_file_is_played(tmp_path):
    session = tutorial(20)
    session.save(tmp_path / "lesson.tui-gru")
    before = (tmp_path / "lesson.tui-gru").read_bytes()
    assert main(["player", "--session", str(tmp_path / "lesson.tui-gru"), "-o", str(tmp_path / "lesson.html")]) == 0
    assert (tmp_path / "lesson.tui-gru").read_bytes() == before
    assert len(data_of((tmp_path / "lesson.html").read_text("utf-8"))["frames"]) == 4


def test_commands_and_keys_are_told_apart():
    assert commands_of("l; 3n ;\n why h[1,1];;") == ["l", "3n", "why h[1,1]"]
    assert [is_keys(each) for each in ("l", "40n s 6o", "enter", "go e3", "sample Ma 10 0", "2 enter")] == [True] * 3 + [
        False
    ] * 2 + [True]


# In a notebook


def test_a_notebook_shows_the_last_moments():
    session = tutorial()

    async def cell():  # a notebook has a running loop
        return session._repr_html_()

    shown = asyncio.run(cell())
    assert shown.startswith("<iframe ")
    data = data_of(html.unescape(re.search('srcdoc="([^"]*)"', shown)[1]))
    assert data["start"] == len(data["frames"]) - 1
    assert 'sandbox="allow-scripts"' in shown


# The script of the page


SCRIPT = """
const [count, ends, keys] = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const step = stepper(count, ends);
let at = 0;
console.log(JSON.stringify(keys.map(([letter, steps]) => at = step(at, letter, steps))));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_keys_lead_where_those_of_the_debugger_lead():
    session = tutorial(0)
    session.step("epoch", 2)
    walk, draw = Walk.to_here(session, "line"), random.Random(5)
    levels = {"o": "line", "s": "timestep", "n": "batch", "e": "epoch"}
    session.seek(0)
    keys, wanted = [], []
    for _ in range(400):
        key = draw.choice("oossnne"), draw.choice((1, 1, 2, -1, -1, -2, 3, -3))
        before = session.state
        if session.step(levels[key[0]], key[1]).tick > walk.ticks[-1]:  # the file ends there
            session = Session(state=before)
            continue
        keys.append(key)
        wanted.append(session.position.tick)
    script = re.search(r"'use strict';(.*?)async function", PAGE.read_text("utf-8"), re.DOTALL)[1]
    given = json.dumps([len(walk.ticks), walk.ends(), keys])
    done = subprocess.run(["node", "-e", script + SCRIPT], input=given, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == wanted


# In a browser


@pytest.fixture(scope="module")
def browser():
    if tests.chromium.PROGRAM is None:
        pytest.skip("chromium is not installed")
    chromium = Chromium()
    yield chromium
    chromium.close()


@pytest.fixture
def opened(browser, page, tmp_path):
    (tmp_path / "walk.html").write_text(page, "utf-8")
    browser.resize(1360, 860)
    browser.prefer("dark")
    browser.events.clear()
    browser.open((tmp_path / "walk.html").as_uri() + "#12")
    yield browser
    assert not [each for each in browser.events if each["method"] in ("Runtime.exceptionThrown", "Network.loadingFailed")]
    asked = [each["params"]["request"]["url"] for each in browser.events if each["method"] == "Network.requestWillBeSent"]
    assert all(url.startswith("file:") for url in asked)


def shown_text(browser):
    return browser.run("[...document.querySelectorAll('#screen div')].map(row => row.textContent)")


def test_a_link_and_keys_show_the_moments(opened, data):
    frames = texts(data)
    at = []
    for key in ("", "o", "O", "s", "S", "End", "ArrowLeft", "Home", "ArrowRight", "2", "o", "N", "n"):
        if key:
            opened.key(key)
        at.append(opened.run("player.at"))
        assert shown_text(opened) == frames[at[-1]]
    assert at == [12, 13, 12, 18, 12, LINES, LINES - 1, 0, 1, 1, 3, 0, 3]
    assert opened.run("location.hash") == "#3"
    opened.run("player.show(30)")
    assert opened.run("[player.at, player.key('O'), player.key('x'), player.at]") == [30, True, False, 29]
    opened.run("location.hash = '#7'")
    opened.wait("player.at === 7")


def test_a_moment_is_read_aloud_and_the_text_is_found(opened, data):
    said = opened.run("document.querySelector('[aria-live]#said').textContent")
    assert said.startswith(f"13/{LINES + 1} · {data['words'][12][0]} · {data['words'][12][1]}")
    assert opened.run("window.find('h̃ = tanh(x Wh + (r⊙hₜ₋₁) Uh')")
    assert opened.run("String(getSelection())") == "h̃ = tanh(x Wh + (r⊙hₜ₋₁) Uh"


def test_every_sign_is_in_its_cells(opened, data):
    """The right edge of each row is at the same place, within half a cell."""
    script = """[...document.querySelectorAll('#screen div')].map(row => {
      const range = document.createRange();
      range.selectNodeContents(row);
      return range.getBoundingClientRect().width / row.clientWidth;
    })"""
    assert all(abs(width - 1) < 0.5 / data["size"][0] for width in opened.run(script))


@needs_node
def test_a_click_on_a_number_shows_its_derivation_and_leads_to_its_terms(opened, page, data):
    spots = spots_of(data)[12]
    derived = computed(data["derive"], arrays_of(page), [(number, 12) for *_, number in spots])
    leading = next(i for i, each in enumerate(derived) if any(term[7] is not None for term in each[6]) and each[4] == 12)
    (y, x, width, _), (name, value, line, *_) = spots[leading], derived[leading]
    box = opened.run("(b => [b.left, b.top, b.width, b.height])(document.getElementById('screen').getBoundingClientRect())")
    columns, rows = data["size"]
    opened.click(box[0] + (x + width / 2) * box[2] / columns, box[1] + (y + 0.5) * box[3] / rows)
    shown = opened.run("document.getElementById('why').textContent")
    assert f"{name} = {value.removeprefix('+')}" in shown
    assert line in shown
    opened.run("[...document.querySelectorAll('#why li button')].find(b => b.textContent.startsWith('moment')).click()")
    moment = opened.run("player.at")
    assert moment < 12
    assert not opened.run("document.getElementById('why').hidden")
    opened.run("document.getElementById('back').click()")
    assert opened.run("player.at") == 12
    opened.run("document.querySelectorAll('#why details').forEach(each => each.open = true)")
    opened.wait("document.querySelectorAll('#why details details').length > 0")
    opened.key("Escape")
    assert opened.run("document.getElementById('why').hidden")
    opened.key("Enter")
    assert not opened.run("document.getElementById('why').hidden")


def test_buttons_slider_chapters_and_play(opened):
    opened.run("document.querySelector('[data-key=s]').click()")
    assert opened.run("player.at") == 18
    opened.run("bar.value = 5; bar.dispatchEvent(new Event('input'))")
    assert opened.run("player.at") == 5
    chapters = opened.run("[...document.getElementById('chapters').options].map(each => each.textContent)")
    assert chapters == ["marks", "a here <i>it</i> begins"]
    opened.run("chapters.value = '30'; chapters.dispatchEvent(new Event('change'))")
    assert opened.run("player.at") == LINES
    assert "mark a: here <i>it</i> begins" in opened.run("said.textContent")
    opened.run("player.show(28)")
    opened.key(" ")
    opened.wait("player.at === 30")
    assert opened.run("document.querySelector('[data-key=\" \"]').textContent") == "play"


@pytest.mark.parametrize(("width", "height"), [(1360, 860), (800, 600), (844, 390)])
def test_the_screen_fits_and_turns_on_a_phone(opened, width, height):
    phone = height < 500
    opened.resize(width, height, phone=phone)
    opened.wait(f"innerWidth === {width} && document.getElementById('screen').getBoundingClientRect().right <= {width} + 1")
    left, right, wide = opened.run(
        "(b => [b.left, b.right, document.documentElement.scrollWidth])(document.getElementById('screen').getBoundingClientRect())"
    )
    assert left >= -1
    assert right <= width + 1
    assert wide <= width
    if phone:
        opened.swipe(250, 100, -120)
        opened.wait("player.at === 13")
        opened.swipe(100, 100, 120)
        opened.wait("player.at === 12")


def test_an_upright_phone_has_a_screen_of_fewer_columns_whose_letters_can_be_read(opened, data):
    columns, rows = data["narrow"]["size"]
    opened.resize(390, 844, phone=True)
    opened.wait(f"innerWidth === 390 && document.querySelectorAll('#screen > div').length === {rows}")
    across, wide, page, size = opened.run(
        "[view.clientWidth, view.scrollWidth, document.documentElement.scrollWidth, "
        "parseFloat(getComputedStyle(document.getElementById('screen')).fontSize)]"
    )
    assert across == wide == page == 390
    assert columns * 12 / 2 < 390
    assert size >= 12
    assert [row.rstrip() for row in shown_text(opened)] == [row.rstrip() for row in texts(data["narrow"])[12]]
    opened.swipe(250, 100, -120)
    opened.wait("player.at === 13")
    opened.key("Enter")
    opened.wait("!document.getElementById('why').hidden")
    left, right = opened.run("(b => [b.left, b.right])(document.getElementById('mark').getBoundingClientRect())")
    assert 0 <= left < right <= 391  # the number that is explained is in view
    opened.resize(1360, 860)
    opened.wait(f"document.querySelectorAll('#screen > div').length === {data['size'][1]}")
    assert opened.run("player.at") == 13


def test_keys_that_lead_nowhere_are_not_offered(opened):
    def offered():
        return opened.run(
            "[...document.querySelectorAll('nav [data-key]')].filter(one => !one.disabled).map(one => one.dataset.key)"
        )

    opened.run("player.show(0)")
    assert not set(offered()) & set("OSNE")
    assert set(offered()) >= set("osne ")
    opened.run(f"player.show({LINES})")
    assert not set(offered()) & set("osne ")
    assert set(offered()) >= set("OSNE")


def test_colours_follow_the_preference_and_print_has_the_moment(opened, data):
    colours = []
    for scheme in ("dark", "light"):
        opened.prefer(scheme)
        colours.append(opened.run("getComputedStyle(document.body).backgroundColor"))
    as_hex = ["#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", colour)) for colour in colours]
    assert as_hex == [ground[1].lower() for ground in data["grounds"]]
    opened.prefer("light", media="print")
    assert opened.run("getComputedStyle(document.querySelector('nav button')).display") == "none"
    assert opened.run("getComputedStyle(document.getElementById('screen')).display") == "block"


def test_hostile_texts_execute_nothing(browser, tmp_path):
    session = Session(text=HOSTILE * 3, hidden_size=2, batch_size=1, seq_length=3)
    session.step("timestep", 1)
    session.mark("a", HOSTILE)
    browser.open(session.player(tmp_path / "hostile.html").as_uri())
    browser.key("End")
    browser.key("Enter")
    assert browser.run("[window.broken === undefined, document.querySelectorAll('#screen b, #said b, option b').length]") == [
        True,
        0,
    ]
    assert browser.run("document.title").startswith("tui-gru · @DATA@</script><script>")


def test_two_players_in_a_notebook_do_not_disturb_each_other(browser, tmp_path):
    session = tutorial(3)
    shown = session._repr_html_()
    (tmp_path / "book.html").write_text(f"<!doctype html><body><p>text</p>{shown}{shown}", "utf-8")
    browser.open((tmp_path / "book.html").as_uri(), ready="frames.length === 2")
    assert browser.run("[document.querySelectorAll('iframe').length, typeof window.player, document.body.style.cssText]") == [
        2,
        "undefined",
        "",
    ]


async def test_a_moment_that_was_not_drawn_in_the_second_theme_looks_as_if_it_were(page, data):
    """Most moments are translated from the dark theme by the styles of others. What differs may be the ink of blanks only."""
    session = tutorial()
    session.mark("a", "here <i>it</i> begins")
    player = Player(session, by="line", theme="whiteboard")
    player.draw()
    light, styles, colours = data_of(player.page()), data["styles"], data["colours"]
    for moment, (both, alone) in enumerate(
        zip(unfolded(data["frames"], data["size"][1]), unfolded(light["frames"], data["size"][1]), strict=True)
    ):
        for y, (row, other) in enumerate(zip(both, alone, strict=True)):
            ours = cells_of(data["rows"][row], lambda n: (colours[styles[n][2]], colours[styles[n][3]], styles[n][4]))
            theirs = cells_of(
                light["rows"][other],
                lambda n: (light["colours"][light["styles"][n][0]], light["colours"][light["styles"][n][1]], light["styles"][n][4]),
            )
            assert ours == theirs, (moment, y)


def cells_of(row, colours):
    """Return each character of a row with its colours and decoration; of a blank the background only."""
    parts, style, cells = iter(row), None, []
    for part in parts:
        if isinstance(part, str):
            cells += [(char, *(colours(style)[1:] if char.isspace() else colours(style))) for char in part]
        elif part >= 0:
            style = part
    return cells


def test_a_mark_is_shown_with_the_page_the_panel_and_the_overlay_that_it_was_set_at(tmp_path):
    commands = "l; 2n; why h[row 1, unit 2]; mark a where it comes from; escape; v; mark b the second page; escape; s"
    player = Player(Session(), commands=commands, size=(80, 24))
    player.draw()
    data = data_of(player.page())
    frames, chapters = texts(data), {letter: moment for moment, letter, _ in data["chapters"]}
    assert any("where does h[row 1, unit 2] come from?" in row for row in frames[chapters["a"]])
    assert chapters["a"] == chapters["b"]
    assert not any("come from?" in row for row in frames[chapters["a"] + 1])
    assert any("h̃" in row for row in frames[-1])
    again = Player(Session(), commands="l; 2n; v; mark b the second page; v; v; 2s; S", size=(80, 24))
    again.draw()
    data = data_of(again.page())
    ((moment, _, _),) = data["chapters"]
    assert any("2/3" in row for row in texts(data)[moment])
    assert any("1/3" in row for row in texts(data)[moment - 1])
    assert any("1/3" in row for row in texts(data)[moment + 1])
