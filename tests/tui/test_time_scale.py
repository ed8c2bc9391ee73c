import pytest

from tui_gru.debugger.position import place_name, position_of, tick_of
from tui_gru.debugger.program import program_of
from tui_gru.engine.config import Config
from tui_gru.tui.plots import TimeScale, divisions

TUTORIAL = program_of(Config.of())


@pytest.mark.parametrize(("span", "width"), [(157, 158), (158, 158), (1000, 158), (999_983, 78), (10**11, 158), (5, 2)])
def test_a_column_is_where_its_tick_is(span, width):
    scale = TimeScale(span, width)
    assert [scale.column(scale.tick(x)) for x in range(width)] == list(range(width))
    assert (scale.tick(0), scale.tick(width - 1)) == (0, span)


@pytest.mark.parametrize(("span", "width"), [(1, 158), (59, 158), (100, 158), (157, 158), (77, 78)])
def test_where_columns_are_many_every_tick_has_one_of_its_own(span, width):
    scale = TimeScale(span, width)
    assert [scale.tick(scale.column(tick)) for tick in range(span + 1)] == list(range(span + 1))


def test_beyond_the_ends_is_the_nearest_end():
    scale = TimeScale(1000, 100)
    assert [scale.column(tick) for tick in (-5, 1001)] == [0, 99]
    assert [scale.tick(x) for x in (-1, 100)] == [0, 1000]


@pytest.mark.parametrize("scale", [TimeScale(0, 80), TimeScale(100, 1), TimeScale(100, 0)])
def test_no_time_and_no_room_are_no_trouble(scale):
    assert (scale.column(50), scale.tick(0)) == (0, 0)


def test_the_edges_are_halfway_between_the_columns():
    assert TimeScale(300, 4).batches(10).tolist() == [-5, 5, 15, 25, 35]


def labels(span, width, program):
    return {tick: label for tick, label in divisions(TimeScale(span, width), program) if label}


@pytest.mark.parametrize("width", [78, 118, 158])
@pytest.mark.parametrize("batches", [0, 1, 2, 5, 7, 30, 1000, 10**6])
def test_a_label_is_where_go_goes(width, batches):
    here = position_of(TUTORIAL, 0)
    shown = labels(max(batches, 1) * TUTORIAL.ticks, width, TUTORIAL)
    assert shown[0] == "e1"
    assert 1 <= len(shown) <= max(width // 12, 7)
    for tick, label in shown.items():
        if label[0] == "e":
            assert tick_of(label, here, TUTORIAL) == tick
        elif label[0] in "bt":
            where = position_of(TUTORIAL, tick + (label[0] == "b"))
            assert tick_of(f"e{where.epoch + 1} b{where.batch + 1} {'' if label[0] == 'b' else label}", here, TUTORIAL) == tick


def test_an_epoch_of_a_hundred_thousand_batches_is_divided_into_batches():
    program = program_of(Config.of(text="ab" * 100_001, batch_size=1, seq_length=2))
    assert program.num_batches >= 100_000
    few = labels(60_000 * program.ticks, 158, program)
    assert len(few) >= 4
    assert set(few.values()) - {"e1"} == {f"b{n * 5000}" for n in range(1, 13)}
    two = list(labels(150_000 * program.ticks, 158, program).values())
    assert two[:2] == ["e1", "e2"]
    assert two[2:] == [b for n in range(1, 6) for b in [f"b{n * 20000}"] * 2]


@pytest.mark.parametrize(
    ("tick", "name"),
    [
        (0, "e1 b1"),
        (9, "e1 b1 t1"),
        (TUTORIAL.loss_tick, "e1 b1 loss"),
        (TUTORIAL.loss_tick + 1, "e1 b1 t3 ←"),
        (TUTORIAL.ticks, "e1 b1 update"),
        (TUTORIAL.ticks * 35 + 18, "e12 b3 t2"),
    ],
)
def test_places_are_named_as_go_takes_them(tick, name):
    assert place_name(position_of(TUTORIAL, tick)) == name
