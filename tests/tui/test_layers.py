"""The key that selects the layer, and its message."""

from __future__ import annotations

from tests.tui.test_main_screen import driving
from tui_gru.tui.panels.values import ValueMatrix
from tui_gru.tui.panels.weights import Overview
from tui_gru.tui.screen import ScreenLayout


async def test_a_key_goes_through_layers_and_directions_and_back_to_the_one_at_work() -> None:
    async with driving(layers=2, bidirectional=True) as d:
        await d.type("o")
        for said, suffix in (
            ("layer 1 of 2 →", "_l0"),
            ("layer 1 of 2 ←", "_l0_reverse"),
            ("layer 2 of 2 →", "_l1"),
            ("layer 2 of 2 ←", "_l1_reverse"),
            ("the layer of the current line", "_l0"),
        ):
            await d.type("L")
            assert d.says == f"gates, weights and gradient flow show {said}"
            assert f"z{suffix}" in {matrix.value_name for matrix in d.screen.query(ValueMatrix)}
        await d.type("L", "L")
        await d.type("n")
        assert "z_l0_reverse" in {matrix.value_name for matrix in d.screen.query(ValueMatrix)}
        assert str(d.screen.query_one(Overview).border_title) == "weights · layer 1 of 2 ←"


async def test_a_model_of_one_layer_says_so() -> None:
    async with driving() as d:
        await d.type("L")
        assert d.says == "this model has one layer, in one direction"


async def test_the_layer_is_kept_with_the_layout() -> None:
    async with driving(layers=2) as d:
        await d.type("L")
        kept = ScreenLayout.of(d.screen)._asdict()
        assert kept["layer"] == 0
        await d.type("L", "L")
        assert d.screen.view.layer is None
        ScreenLayout.read(kept).apply(d.screen)
        assert d.screen.view.layer == 0
        ScreenLayout.read({**kept, "layer": 7}).apply(d.screen)
        assert d.screen.view.layer is None


async def test_an_lstm_has_room_for_its_gates_and_its_softmax() -> None:
    async with driving(cell="lstm") as d:
        await d.type("s")
        matrices = list(d.screen.query(ValueMatrix))
        assert all(matrix.as_numbers for matrix in matrices)
        assert len({matrix.region.y for matrix in matrices}) == 2
        assert d.screen.query_one("Softmax").content_size.height >= 4  # a row for each letter
