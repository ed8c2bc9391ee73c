"""Panels in models of several layers, directions and states: which layer they show, and how its gradients flow."""

from __future__ import annotations

import re

import pytest

from tests.tui.panels.sessions import at, start
from tui_gru.debugger.program import Program
from tui_gru.engine import numbers
from tui_gru.session.snapshot import Snapshot
from tui_gru.tui.panel import View
from tui_gru.tui.panels.listing import Listing, arrow_row, folded_rows
from tui_gru.tui.panels.sequence import Sequence, flow_legend, flow_table, sequence
from tui_gru.tui.panels.values import Gates, ValueMatrix
from tui_gru.tui.panels.weights import WEIGHTS, Overview, Spacing, WeightsPanel, fits, sheet
from tui_gru.tui.theme import BLACKBOARD, palette_for

P = palette_for(BLACKBOARD)
BOTH = {"layers": 2, "bidirectional": True, "embedding": 3}


def headings(program: Program) -> list[str]:
    """Return the headings of loops and layers, from the loop over the batches on."""
    return [row.text for row in program.rows if row.line is None][3:]


def test_the_listing_says_which_layer_lines_are_of() -> None:
    assert headings(start(layers=2).program)[:4] == [
        "for t in 1…3:",
        "# layer 1 of 2: …_l0",
        "# layer 2 of 2: …_l1",
        "# head and loss",
    ]
    assert headings(start(**BOTH).program)[:11] == [
        "for t in 1…3:",
        "# input",
        "# layer 1 of 2 →: …_l0",
        "for t in 3…1:",
        "# layer 1 of 2 ←: …_l0_reverse",
        "for t in 1…3:",
        "# layer 1 of 2, both directions",
        "# layer 2 of 2 →: …_l1",
        "for t in 3…1:",
        "# layer 2 of 2 ←: …_l1_reverse",
        "for t in 1…3:",
    ]
    assert headings(start(**BOTH).program)[-2:] == ["for t in 3…1:", "# input"]


@pytest.mark.parametrize("options", [{}, {"cell": "lstm"}, {"embedding": 3}])
def test_one_layer_in_one_direction_has_no_headings(options: dict) -> None:
    assert headings(start(**options).program) == ["for t in 1…3:", "for t in 3…1:"]


@pytest.mark.parametrize("target", ["r_l0", "r_l0_reverse", "h_l1", "term1", "dr_l1_reverse", "dWz_l0", "dWz_l0_reverse"])
async def test_the_timestep_stands_at_the_loop_at_work_alone(board, target: str) -> None:
    snapshot = at(target, 1, **BOTH)
    listing = Listing()
    async with board(listing).run_test(size=(80, 160)) as pilot:
        listing.show(snapshot, View())
        await pilot.pause()
        lines = [listing.render_line(y).text.rstrip() for y in range(len(snapshot.program.rows))]
        marked = [y for y, line in enumerate(lines) if line.endswith("t 2")]
        assert len(marked) == 1
        assert folded_rows(snapshot.program, arrow_row(snapshot))[marked[0]].row.block == snapshot.line.block


@pytest.mark.parametrize(
    ("target", "layer"),
    [
        ("x", "_l0"), ("dE", "_l0"),
        ("z_l0", "_l0"), ("h_l0_reverse", "_l0_reverse"), ("z_l1", "_l1"), ("term1", "_l1"), ("loss", "_l1"),
        ("dz_l1_reverse", "_l1_reverse"), ("dWz_l0", "_l0"), ("Uh_l0_reverse", "_l0_reverse"), ("by", "_l1"),
    ],
)  # fmt: skip
def test_panels_show_the_layer_of_the_line_at_work(target: str, layer: str) -> None:
    assert View().layer_of(at(target, 1, **BOTH)).suffix == layer
    assert View(layer=0).layer_of(at(target, 1, **BOTH)).suffix == "_l0"
    assert View(layer=3).layer_of(at(target, 1, **BOTH)).suffix == "_l1_reverse"


async def test_gates_are_those_of_the_layer(board) -> None:
    snapshot = at("h_l0", 1, cell="mgu", layers=2)
    gates = Gates(snapshot.program)
    async with board(gates).run_test(size=(120, 6)) as pilot:
        for view, suffix in ((View(), "_l0"), (View(layer=1), "_l1")):
            gates.show(snapshot, view)
            await pilot.pause()
            shown = [matrix.value_name for matrix in gates.query(ValueMatrix)]
            assert shown == [f"{name}{suffix}" for name in ("h_prev", "f", "h_tilde", "h")]


async def test_a_title_without_room_leaves_out_the_layer(board) -> None:
    snapshot = at("i_l1_reverse", 1, cell="lstm", layers=2, bidirectional=True)
    gates = Gates(snapshot.program)
    async with board(gates).run_test(size=(80, 4)) as pilot:
        gates.show(snapshot, View())
        await pilot.pause()
        assert [str(matrix.border_title) for matrix in gates.query(ValueMatrix)] == [
            "hₜ₊₁",
            "→ cₜ₊₁",
            "→ f",
            "→ i",
            "→ g",
            "→ c",
            "→ q",
            "→ h",
        ]


async def test_a_state_from_the_next_timestep_is_titled_as_after(board) -> None:
    gates = Gates(at("h_l0", 1, cell="rnn", bidirectional=True).program)
    async with board(gates).run_test(size=(80, 4)) as pilot:
        for target, word in (("h_l0", "hₜ₋₁_l0  before"), ("h_l0_reverse", "hₜ₊₁_l0_reverse  after")):
            gates.show(at(target, 1, cell="rnn", bidirectional=True), View())
            await pilot.pause()
            assert str(gates.query(ValueMatrix).first().border_title) == word


@pytest.mark.parametrize(("size", "rows"), [((118, 8), 2), ((118, 4), 1), ((160, 12), 2), ((60, 16), 2), ((40, 16), 3)])
async def test_many_values_stand_in_two_rows_where_there_is_the_height(board, size: tuple[int, int], rows: int) -> None:
    snapshot = at("h", 1, cell="lstm")
    gates = Gates(snapshot.program)
    async with board(gates).run_test(size=size) as pilot:
        gates.show(snapshot, View())
        await pilot.pause()
        matrices = list(gates.query(ValueMatrix))
        assert len(matrices) == 8
        assert len({matrix.region.y for matrix in matrices}) == rows
        if size[0] // -(-8 // rows) >= 20:
            assert all(matrix.as_numbers for matrix in matrices)
            words = [str(matrix.border_title).partition("  ")[2] for matrix in matrices]
            assert words == ["before", "before", "forget", "input", "candidate", "state c", "output", "state h"]


async def test_weights_are_those_of_the_layer_and_of_no_layer(board, written) -> None:
    snapshot, weights = at("term3", 1, **BOTH), WeightsPanel()
    async with board(weights).run_test(size=(110, 30)) as pilot:
        for view, layer, suffix in ((View(), "layer 2 of 2 →", "_l1"), (View(layer=1), "layer 1 of 2 ←", "_l0_reverse")):
            weights.show(snapshot, view)
            await pilot.pause()
            overview = weights.query_one(Overview)
            names = [word for word in written(overview).split() if word in snapshot.program.parameters]
            gates = [f"{kind}{gate}{suffix}" for kind in "WUb" for gate in "zrh"]
            assert sorted(names) == sorted(["E", *gates, "Wy", "by"])
            assert str(overview.border_title) == f"weights · {layer}"


def test_the_weights_of_an_lstm_fit_the_wide_screen() -> None:
    snapshot = at("h", 1, cell="lstm")
    names = snapshot.program.parameters
    assert fits(snapshot.program, names, 76)
    box = sheet(P, snapshot, names, WEIGHTS, 76, Spacing(compact=True))
    assert (box.width <= 76, box.height <= 12) == (True, True)
    assert all(name in box.text for name in names)


async def test_a_name_too_long_for_its_title_has_an_arrow_for_the_direction(board) -> None:
    snapshot = at("h_l0_reverse", 1, **BOTH)
    gates = Gates(snapshot.program)
    async with board(gates).run_test(size=(80, 4)) as pilot:
        gates.show(snapshot, View())
        await pilot.pause()
        assert [str(matrix.border_title) for matrix in gates.query(ValueMatrix)] == [
            "hₜ₊₁_l0←",
            "→ r_l0←",
            "→ h̃_l0←",
            "→ z_l0←",
            "→ h_l0←",
        ]
        await pilot.resize_terminal(160, 4)
        await pilot.pause()
        assert str(gates.query(ValueMatrix).first().border_title) == "hₜ₊₁_l0_reverse  after"


# The gradient's flow


def lines_of(snapshot: Snapshot, view: View, width: int = 60, height: int = 6) -> list[str]:
    return [line.rstrip() for line in sequence(P, snapshot, view, width, height).text.splitlines()]


def test_each_state_has_its_norms() -> None:
    snapshot = at("dc_prev", 1, cell="lstm")
    *_, of_h, of_c, paths = lines_of(snapshot, View())
    for state, line in (("h", of_h), ("c", of_c)):
        norms = [numbers.unit(flow.dh) for flow in snapshot.flow(state=state)[1:]]
        assert line.split() == [f"‖d{state}‖", "┃", "·", *norms, "size", "of", "gradient"]
    assert set(paths.removesuffix("share of each path").split()[-1]) <= set("ifgq")
    assert flow_legend(snapshot, "h", 80) == "shares by size: i input · f forget · g candidate · q output"


def test_a_single_path_is_not_divided() -> None:
    snapshot = at("dc_prev", 1, cell="lstm")
    assert flow_legend(snapshot, "c", 80) == ""
    rows = ["".join(segment.text for segment in row) for row in flow_table(P, snapshot, "c", snapshot.flow(state="c"), 140, 20)]
    assert "here" in rows[0]
    assert not any("%" in row for row in rows)
    simple = at("dh_prev", 1, cell="rnn")
    assert not any("paths" in line for line in lines_of(simple, View()))


def test_the_flow_is_that_of_the_layer() -> None:
    snapshot = at("dWz_l0", 0, layers=2)
    for number, state in enumerate(("h_l0", "h_l1")):
        norms = lines_of(snapshot, View(layer=number))[-3].split()
        assert norms[:5] == ["‖dh‖", "┃", *(numbers.unit(flow.dh) for flow in snapshot.flow(state=state))]


async def test_the_title_says_whose_gradient_flows(board) -> None:
    sequence = Sequence()
    sequence.styles.height = 9
    async with board(sequence).run_test(size=(70, 9)):
        sequence.show(at("dr_l0", 1, layers=2), View())
        assert sequence.heading == "sequence · gradient of layer 1 of 2"
        sequence.show(at("dr_l0", 1, layers=2), View(layer=1))
        assert sequence.heading == "sequence · gradient of layer 2 of 2"
        sequence.show(at("r_l0", 1, layers=2), View())
        assert sequence.heading == "sequence  batch ↓  time →"
    async with board(sequence).run_test(size=(38, 9)):
        sequence.show(at("dr_l0", 1, layers=2), View())
        assert sequence.heading == "sequence · layer 1 of 2"


def test_the_gradient_of_a_reverse_layer_flows_the_other_way() -> None:
    snapshot = at("dh_next_l1_reverse", 1, **BOTH)  # two of three timesteps are done
    view = View(layer=3)
    assert [flow is not None for flow in snapshot.flow(state="h_l1_reverse")] == [True, True, False]
    norms = lines_of(snapshot, view)[-3]
    assert norms.endswith("┃  size of gradient")
    assert norms.split()[-5] == "·"
    rows = [
        "".join(segment.text for segment in row)
        for row in flow_table(P, snapshot, "h_l1_reverse", snapshot.flow(state="h_l1_reverse"), 140, 20)
    ]
    assert [row.split()[1] for row in rows[1:4]] == ["1", "2", "3"]
    assert "on to t+1" in rows[0]
    first, second = lines_of(snapshot, View(layer=2))[-2:]
    assert first.startswith("share┃")
    shares = [int(share) for share in re.findall("[a-z] *([0-9]+)", first + second)]
    assert sum(shares) == pytest.approx(300, abs=6)  # of three timesteps, rounded


@pytest.mark.parametrize("target", ["dc_prev_l0", "dh_next_l1_reverse", "dWi_l0_reverse"])
def test_every_size(target: str) -> None:
    snapshot = at(target, 1, cell="lstm", **BOTH)
    for layer in range(4):
        for width, height in ((10, 2), (20, 3), (36, 4), (38, 6), (56, 6), (56, 7), (78, 10), (100, 20), (160, 50)):
            box = sequence(P, snapshot, View(1, layer), width, height)
            assert box.height <= height
            assert box.width <= width or width < 36
