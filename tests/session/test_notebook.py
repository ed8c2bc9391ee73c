"""What a notebook shows of derivations, summaries and findings."""

import html

from tui_gru import Session


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
