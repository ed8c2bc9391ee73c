"""What a notebook shows of a session, of derivations, summaries and findings."""

import html
import sys

import nbformat
import pytest
from jupyter_client import KernelManager
from nbclient import NotebookClient

import tests.chromium
from tests.chromium import Chromium
from tui_gru import Session

CELLS = (
    "import tui_gru\nsession = tui_gru.Session()\nsession.learning = True\nsession.step('batch', 4)\nsession",
    "session.explain('h', (0, 0), t=0)",
    "session.summary('Wz')",
    "session.findings()",
)


class ThisPython(KernelManager):
    """Starts a kernel with the interpreter of the tests, whatever kernels are registered."""

    def format_kernel_cmd(self, extra_arguments=None):
        return [sys.executable, "-m", "ipykernel_launcher", "-f", self.connection_file]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """What each cell of an executed notebook shows, as HTML."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    folder = str(tmp_path_factory.mktemp("notebook"))
    NotebookClient(book, kernel_manager_class=ThisPython, resources={"metadata": {"path": folder}}, timeout=120).execute()
    return [cell.outputs[-1].data["text/html"] for cell in book.cells]


@pytest.mark.filterwarnings("ignore")  # of the libraries that execute notebooks
def test_an_executed_notebook_shows_a_session_a_derivation_a_summary_and_findings(executed):
    session = Session()
    session.learning = True
    session.step("batch", 4)
    player, derivation, summary, findings = executed
    assert player.startswith("<iframe ")
    assert html.escape(repr(session)) in player
    assert derivation == session.explain("h", (0, 0), t=0)._repr_html_()
    assert summary == session.summary("Wz")._repr_html_()
    assert findings == session.findings()._repr_html_()


@pytest.mark.skipif(tests.chromium.PROGRAM is None, reason="chromium is not installed")
@pytest.mark.filterwarnings("ignore")
def test_a_browser_steps_the_session_that_an_executed_notebook_shows(executed, tmp_path):
    (tmp_path / "book.html").write_text(f"<!doctype html><body style='margin:0'>{''.join(executed)}", "utf-8")
    browser = Chromium()
    try:
        browser.open((tmp_path / "book.html").as_uri(), ready="frames.length === 1")
        with browser.frame():
            browser.wait("document.readyState === 'complete' && !!window.player")
            last = browser.run("player.at")
        assert any(_clicked(browser) for _ in range(1000))  # a click goes to the page until the frame is drawn
        browser.key("ArrowLeft")
        with browser.frame():
            browser.wait(f"player.at === {last - 1}")
            assert "epoch 2" in browser.run("document.querySelector('#screen').textContent")
        assert not [each for each in browser.events if each["method"] == "Runtime.exceptionThrown"]
    finally:
        browser.close()


def _clicked(browser):
    browser.click(600, 300)
    with browser.frame():
        return browser.run("document.hasFocus()")


def test_a_notebook_shows_a_derivation_a_summary_and_findings():
    session = Session()
    session.learning = True
    session.step("batch", 4)
    node = session.explain("h", (0, 0), t=0)
    shown = node._repr_html_()
    assert html.escape(node.label) in shown
    assert shown.count("<ul>") == shown.count("</ul>") >= 2
    assert all(html.escape(term.label) in shown for term in node.terms)
    assert "<td>8</td>" in session.summary("Wz")._repr_html_()
    found = session.findings()
    assert found
    assert found._repr_html_() == "".join(each._repr_html_() for each in found)
    assert html.escape(found[0].title) in found[0]._repr_html_()
    assert type(found)()._repr_html_() == "<p>no findings</p>"


def test_text_in_a_derivation_is_text():
    session = Session(text="<b>&</b><b>&</b><b>", hidden_size=2, batch_size=1, seq_length=3)
    session.step("timestep", 1)
    shown = session.explain("x", (0, 0), t=0)._repr_html_() + session.explain("z", (0, 0), t=0)._repr_html_()
    assert "<b>" not in shown
    assert "&lt;" in shown
