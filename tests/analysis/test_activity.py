"""Units over time: correlations equal NumPy's, positions refer to the right numbers, and uncomputed values are not shown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.debugger.models import parametrize
from tests.extent import examples
from tui_gru import Session, TuiGruError
from tui_gru.analysis.units import (
    APART,
    CLASSES,
    FEATURES,
    Activity,
    Correlated,
    OnUnit,
    TextPlace,
    TextSpan,
    context,
    feature_of,
    feature_of_numbers,
    over_row,
    values_after_characters,
    values_of_text,
)

DRAW = np.random.default_rng(7)
TEXT = "".join(DRAW.permuted(list('ab 12 "c"\n' * 300)))
VALUES = DRAW.normal(0.3, 1, (len(TEXT), 6))
VALUES[:, 2] = 2 * VALUES[:, 1] - 1
VALUES[:, 3] = 0.25  # a unit that never varies
VALUES[:, 4] += feature_of("digits").values(TEXT)
ACTIVITY = Activity("h", VALUES, TEXT)
NARROW = Activity("h", VALUES.astype(np.float32), TEXT)
LIVE = [0, 1, 2, 4, 5]


@pytest.mark.parametrize(("activity", "error"), [(ACTIVITY, 1e-12), (NARROW, 1e-5)], ids=["float64", "float32"])
def test_correlations_are_numpys(activity, error):
    expected = np.corrcoef(VALUES[:, LIVE].T)
    for at, unit in enumerate(LIVE):
        found = activity.correlations(unit)
        assert found[LIVE] == pytest.approx(expected[at], abs=error)
        assert found[3] == 0
    assert activity.deviations == pytest.approx(VALUES.std(axis=0), abs=1e-6)
    assert activity.means == pytest.approx(VALUES.mean(axis=0), abs=1e-6)


@pytest.mark.parametrize(("activity", "error"), [(ACTIVITY, 1e-12), (NARROW, 1e-5)], ids=["float64", "float32"])
def test_correlations_with_a_class_are_numpys(activity, error):
    mask = feature_of("digits").values(TEXT).astype(float)
    found = activity.feature_correlations(feature_of("digits"))
    assert found[LIVE] == pytest.approx([np.corrcoef(mask, VALUES[:, unit])[0, 1] for unit in LIVE], abs=error)
    assert found[3] == 0


def test_correlations_in_a_text_of_many_thousands_are_numpys():
    """More timesteps than are summed at once, with the last of them incomplete."""
    values = DRAW.normal([2.0, -3.0, 0.1], 1, (20_001, 3)).astype(np.float32)
    values[:, 2] += np.linspace(0, 9, len(values), dtype=np.float32)
    text = "".join(DRAW.choice(list("ab1"), len(values)))
    activity = Activity("h", values, text)
    mask = feature_of("digits").values(text).astype(float)
    assert activity.deviations == pytest.approx(values.astype(float).std(axis=0), rel=1e-5)
    assert activity.pairs == pytest.approx(np.corrcoef(values.astype(float).T), abs=1e-5)
    expected = np.corrcoef(values.astype(float).T, mask)[3, :3]
    assert activity.feature_correlations(feature_of("digits")) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("start", [0, 700])
def test_in_a_row_that_is_computed_in_part_each_value_goes_with_its_own_character(start):
    """A forward pass has computed the first timesteps, a backward pass the last ones."""
    part = slice(start, start + 2300)
    values = np.full_like(VALUES, np.nan)
    values[part] = VALUES[part]
    activity = Activity("h", values, TEXT)
    assert activity.means == pytest.approx(VALUES[part].mean(axis=0), abs=1e-9)
    for each in CLASSES.values():
        mask = each.values(TEXT)[part].astype(float)
        expected = np.corrcoef(mask, VALUES[part, 4])[0, 1] if 0 < mask.sum() < len(mask) else 0
        assert activity.feature_correlations(each)[4] == pytest.approx(expected, abs=1e-9)
    assert activity.goes_with()[4].what == "digits"
    best = start + int(np.argmax(VALUES[part, 4]))
    assert activity.most(4, 1) == [TextPlace(best, VALUES[best, 4])]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_unit_that_never_varies_goes_with_nothing(dtype):
    """Whatever its value is, and also where the sum of its values is rounded."""
    constants = np.array([sign * value for value in (0.1, 1 / 3, 0.7, 1e-5, 777.7) for sign in (1, -1)], dtype)
    values = np.concatenate([np.broadcast_to(constants, (3001, len(constants))), np.arange(3001)[:, None] % 7], axis=1, dtype=dtype)
    activity = Activity("h", values, (TEXT * 2)[: len(values)])
    assert (activity.means[:-1] == constants).all()
    assert (activity.deviations[:-1] == 0).all()
    assert activity.pairs[-1, -1] == pytest.approx(1, abs=1e-6)
    assert np.count_nonzero(activity.pairs) == 1
    assert np.count_nonzero(activity.feature_correlations(feature_of("digits"))[:-1]) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_unit_that_varies_in_its_last_digit_goes_with_nothing(dtype):
    values = np.array([[sign * value for value in (0.1, 0.7, 777.7) for sign in (1, -1)]] * 3000, dtype)
    values[::2] = np.nextafter(values[::2], dtype(0))
    values = np.concatenate([values, np.arange(3000)[:, None] % 4], axis=1, dtype=dtype)
    activity = Activity("h", values, TEXT)
    assert np.count_nonzero(activity.deviations) == values.shape[1]
    assert np.count_nonzero(activity.pairs) == 1  # the last unit with itself
    assert np.count_nonzero(activity.feature_correlations(feature_of("digits"))[:-1]) == 0


def test_units_like_one_and_what_each_goes_with():
    assert [each.what for each in ACTIVITY.like(1, 1)] == [2]
    assert ACTIVITY.like(1)[0].r == pytest.approx(1)
    assert len(ACTIVITY.like(1, 99)) == 5
    assert (len(ACTIVITY.like(1)), len(ACTIVITY.most(1)), len(ACTIVITY.least(1))) == (5, 10, 10)
    found = ACTIVITY.goes_with()[4]
    assert found == Correlated("digits", pytest.approx(ACTIVITY.feature_correlations(CLASSES["digits"])[4]))


def test_a_class_that_has_nothing_in_it_and_one_that_has_everything():
    assert (ACTIVITY.feature_correlations(feature_of("z")) == 0).all()
    assert (ACTIVITY.feature_correlations(feature_of("".join(set(TEXT)))) == 0).all()


@settings(max_examples=examples(30, soak=500))
@given(st.integers(0, 5), st.integers(1, 40))
def test_the_most_exciting_places_are_the_highest_that_are_apart(unit, count):
    for places, sign in ((ACTIVITY.most(unit, count), 1), (ACTIVITY.least(unit, count), -1)):
        own, free = sign * VALUES[:, unit], np.ones(len(TEXT), bool)
        expected = []
        for _ in range(count):
            if not free.any():
                break
            at = int(np.argmax(np.where(free, own, -np.inf)))
            expected.append(TextPlace(at, VALUES[at, unit]))
            free[max(at - APART + 1, 0) : at + APART] = False
        assert places == expected


def test_what_is_not_a_number_counts_for_nothing():
    values = VALUES.copy()
    values[100:] = np.nan
    part = Activity("h", values, TEXT)
    assert part.correlations(0) == pytest.approx(Activity("h", VALUES[:100], TEXT[:100]).correlations(0))
    assert {place.at < 100 for place in part.most(0)} == {True}
    nothing = Activity("h", np.full((3, 2), np.nan), "abc")
    assert (nothing.correlations(0) == 0).all()
    assert nothing.most(1) == []


def test_a_context():
    letters = "abcdefghijklmnopqrstuvwxyz"
    assert context(letters, 13) == (letters[1:13], "n", letters[14:22])
    assert context("abc", 0) == ("", "a", "bc")


@parametrize()
def test_a_row_of_the_batch_as_far_as_it_is_computed(model):
    session = Session(**model)
    session.learning = True
    session.step("batch", 1)
    session.step("op", session.program.ticks * 2 // 3)
    moment, T = session.snapshot().moment, session.config.seq_length
    for name, named in session.program.names.items():
        if not named.timed or named.axes[:1] != ("B",) or name in ("char", "target"):
            continue
        for row in range(session.config.batch_size):
            activity = over_row(moment, name, row)
            for t in range(T):
                value = moment.value(name, t)
                shown = activity.values[t]
                assert np.isnan(shown).all() if value is None else (shown == np.ravel(value[row])).all()
            assert activity.text == "".join(
                str(session.config.vocabulary[i]) for i in moment.record.ids(session.program.input)[:, row]
            )


def test_a_whole_text():
    session = Session(text=TEXT, hidden_size=4, batch_size=2, seq_length=5)
    found = values_after_characters(session.config, session.snapshot().moment.weights, TEXT, ["h", "term2"])
    assert values_of_text("h", found, TEXT).values is not None
    assert values_of_text("h", found, TEXT).unit(3).tolist() == found["h"][:, 3].tolist()
    assert values_of_text("term2", found, TEXT).units == 1


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("loss", 0, "no value of every timestep and row named 'loss'"),
        ("h_tilda", 0, "did you mean h_tilde"),
        ("h", 2, "row must be"),
    ],
)
def test_what_no_row_has_is_refused(name, row, message):
    with pytest.raises(TuiGruError, match=message):
        over_row(Session().snapshot().moment, name, row)


def test_a_mean_over_the_timesteps_has_no_value_of_a_timestep():
    cell = "state h : H\nparameters W U P\nm = mean x over timesteps\nh = tanh(x W + m P + h_prev U)"
    session = Session(cell="mean.cell", cell_text=cell)
    session.step("batch")
    with pytest.raises(TuiGruError, match="no value of every timestep and row named 'm'"):
        over_row(session.snapshot().moment, "m", 0)


def correlation(feature, values, text):
    own = np.asarray(feature.values(text), float)
    return np.corrcoef(own, values)[0, 1] if own.std() and values.std() else 0.0


def test_a_unit_follows_the_feature_that_it_has_learned_and_not_the_one_that_it_had_before_training():
    """A unit that has always followed digits, and follows the depth of brackets since it was trained, though less strongly."""
    text = "".join(DRAW.choice(list("ab1()"), 600))
    digits, depth = (np.asarray(feature_of(name).values(text), float) for name in ("digits", "bracket-depth"))
    noise = DRAW.normal(0, 0.1, (2, 600))
    before = np.stack([digits + noise[0], noise[1]], axis=1)
    values = np.stack([2 * digits + 0.6 * depth / depth.std() + noise[0], digits + noise[1]], axis=1)
    activity = Activity("h", values, text, before=Activity("h", before, text))
    first, second = activity.goes_with()
    assert (first.what, second.what) == ("bracket-depth", "digits")
    assert Activity("h", values, text).goes_with()[0].what == "digits"
    for unit, found in enumerate((first, second)):
        gained = {}
        for name, feature in FEATURES.items():
            r, was = correlation(feature, values[:, unit], text), correlation(feature, before[:, unit], text)
            gained[name] = abs(r) - abs(was)
            if name == found.what:
                assert (found.r, found.before) == (pytest.approx(r), pytest.approx(was))
        assert gained[found.what] == pytest.approx(max(gained.values()))
        assert found.gained == pytest.approx(gained[found.what])


def test_values_that_are_not_computed_are_left_out_now_and_before_training_on_their_own():
    """Values that depend on the next character have none after the last one; numbers that overflow differ now and before."""
    text = "".join(DRAW.choice(list("ab1()"), 400))
    values, before = DRAW.normal(0, 1, (400, 2)), DRAW.normal(0, 1, (300, 2))
    values[:, 0] += [char == "1" for char in text]
    values[[7, 399]] = before[[20, 21], 1] = np.nan
    digits, computed = feature_of("digits"), [np.isfinite(each).all(axis=1) for each in (values, before)]
    activity = Activity("y", values, text, before=Activity("y", before, text[:300]))
    found = activity.goes_with([digits])
    follows = np.asarray(digits.values(text), float)
    for unit in range(2):
        for r, units, kept in zip((found[unit].r, found[unit].before), (values, before), computed, strict=True):
            assert r == pytest.approx(np.corrcoef(follows[: len(kept)][kept], units[kept, unit])[0, 1])
    (probe,) = activity.probes([digits])
    alone = [
        Activity("y", units[kept], "".join(np.array(list(text))[: len(kept)][kept]))
        for units, kept in zip((values, before), computed, strict=True)
    ]
    assert (probe.r2, probe.before) == tuple(each.probes([digits])[0].r2 for each in alone)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_probe_is_least_squares_on_text_that_was_not_fitted(dtype):
    text = "".join(DRAW.choice(list('ab 1()"\n'), 900))
    values = DRAW.normal(0, 1, (900, 6))
    for unit, name in enumerate(("digits", "bracket-depth", "line-position")):
        values[:, unit] += 2 * np.asarray(feature_of(name).values(text), float)
    values[:, 4] = 0.25  # a unit that never varies
    values[:, 5] = values[:, 0] - 3 * values[:, 1]  # one that says nothing new
    values = values.astype(dtype)
    found = {probe.feature: probe for probe in Activity("h", values, text, before=Activity("h", values[:, :1], text)).probes()}
    assert found.keys() == FEATURES.keys()
    for name, feature in FEATURES.items():
        for units, r2 in ((values, found[name].r2), (values[:, :1], found[name].before)):
            x, y = np.column_stack([units.astype(float), np.ones(900)]), np.asarray(feature.values(text), float)
            slopes = np.linalg.lstsq(x[:675], y[:675], rcond=1e-6)[0]
            rest, spread = y[675:] - x[675:] @ slopes, y[675:] - y[675:].mean()
            assert r2 == pytest.approx(1 - (rest @ rest) / (spread @ spread) if spread.any() else np.nan, abs=1e-6, nan_ok=True)
    order = [probe.r2 for probe in Activity("h", values, text).probes([feature_of(name) for name in ("digits", "spaces")])]
    assert order == sorted(order, reverse=True)
    assert np.isnan(Activity("h", values, text).probes()[0].before)


def test_a_text_that_is_too_short_for_a_probe_has_none():
    assert all(np.isnan(probe.r2) for probe in Activity("h", VALUES[:1], TEXT[:1]).probes())


def test_numbers_have_no_features():
    with pytest.raises(TuiGruError, match="reads numbers, not characters, so it has no features"):
        Activity("h", VALUES, "").feature_correlations(feature_of("digits"))
    with pytest.raises(TuiGruError, match="unit must be from 0 to 5"):
        ACTIVITY.unit(6)


# Where units are on, and the state space


def on_by_brute_force(values, unit, at, threshold):
    """The span around a character through which a unit is on, and the units that are on through all of it; by loops."""
    if not abs(values[at, unit]) >= threshold:
        return None
    sign = 1 if values[at, unit] > 0 else -1
    first, last, on = at, at, []
    while first > 0 and sign * values[first - 1, unit] >= threshold:
        first -= 1
    while last + 1 < len(values) and sign * values[last + 1, unit] >= threshold:
        last += 1
    for each in range(values.shape[1]):
        both = ((each, sign) for sign in (1, -1))
        on += [(unit, sign) for unit, sign in both if all(sign * values[i, unit] >= threshold for i in range(first, last + 1))]
    return first, last, tuple(on)


def spans_by_brute_force(values, on, threshold):
    found, begun = [], None
    for i in range(len(values) + 1):
        together = i < len(values) and all(sign * values[i, unit] >= threshold for unit, sign in on)
        if together and begun is None:
            begun = i
        if not together and begun is not None:
            found.append((begun, i - 1))
            begun = None
    return found


@settings(max_examples=examples(60, soak=2000), deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 4), st.sampled_from([0.1, 0.5, 0.9]))
def test_where_units_are_on_is_what_loops_find(seed, length, units, threshold):
    draw = np.random.default_rng(seed)
    values = np.clip(np.cumsum(draw.normal(0, 0.5, (length, units)), axis=0), -1, 1).astype(np.float32)
    values[draw.random(length) < 0.05] = np.nan
    activity = Activity("h", values, "x" * length)
    for at in range(length):
        unit = at % units
        span, expected = activity.span_at(unit, at, threshold), on_by_brute_force(values, unit, at, threshold)
        if expected is None:
            assert span is None
            continue
        assert (span.first, span.last, span.on) == expected
        assert OnUnit(unit, 1 if values[at, unit] > 0 else -1) in span.on
        places = activity.spans_of(span.on, threshold)
        assert [(each.first, each.last) for each in places] == spans_by_brute_force(values, span.on, threshold)
        assert TextSpan(*expected[:2], span.on) in places


@pytest.mark.parametrize(("activity", "error"), [(ACTIVITY, 1e-9), (NARROW, 1e-4)], ids=["float64", "float32"])
def test_the_plane_is_that_of_numpys_svd(activity, error):
    centred = VALUES - VALUES.mean(axis=0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    plane = activity.plane
    for axis in range(2):
        sign = np.sign(right[axis, np.abs(right[axis]).argmax()])
        assert plane.directions[axis] == pytest.approx(sign * right[axis], abs=error)
        assert plane.at[:, axis] == pytest.approx(sign * left[:, axis] * sizes[axis], abs=20 * error)
        assert plane.shares[axis] == pytest.approx(sizes[axis] ** 2 / (sizes**2).sum(), abs=error)


def test_the_plane_of_states_whose_squares_overflow_is_that_of_smaller_ones():
    values = np.random.default_rng(1).normal(size=(20, 3))
    plane, larger = (Activity("h", values * scale, "a" * 20).plane for scale in (1, 1e200))
    assert larger.directions == pytest.approx(plane.directions)
    assert larger.shares == pytest.approx(plane.shares)


def test_the_plane_of_one_unit_or_of_one_that_never_varies_has_no_second_direction():
    plane = Activity("h", np.array([[1.0], [3.0], [np.nan]]), "abc").plane
    assert plane.directions.tolist() == [[1.0], [0.0]]
    assert plane.at[:2].tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert np.isnan(plane.at[2]).any()
    assert plane.shares.tolist() == [1.0, 0.0]
    assert Activity("h", np.full((3, 2), 0.5), "abc").plane.shares.tolist() == [0.0, 0.0]


# Features with a number for each character


def learned(**options):
    session = Session(text="the cat sat on the mat; " * 6, hidden_size=5, batch_size=2, seq_length=6, **options)
    session.learning = True
    session.step("batch", 40)
    return session


def test_an_expression_is_computed_after_every_character():
    session = learned()
    text, h = session.config.text, session.units().values
    z = session.units("z").values
    before = np.concatenate([h[:1], h[:-1]])
    for typed, expected in (
        ("max(abs(h))", np.abs(h).max(axis=1)),
        ("h[0, 3]", h[:, 3]),
        ("h[0,1] - prev(h)[0,1]", h[:, 1] - before[:, 1]),
        ("mean(z) * 2 + h[0,0]", 2 * z.mean(axis=1) + h[:, 0]),
        ("any(z > 0.6)", (z > 0.6).any(axis=1)),
        ("sum(h_prev)", np.concatenate([np.zeros((1, 5)), h[:-1]]).sum(axis=1)),
    ):
        found = session.feature(typed)
        assert found.name == typed
        assert np.asarray(found.values(text), float) == pytest.approx(np.asarray(expected, float), abs=1e-5), typed
        r = [np.corrcoef(expected.astype(float), h[:, unit])[0, 1] for unit in range(5)]
        assert session.units().feature_correlations(found) == pytest.approx(np.array(r), abs=1e-4)


@pytest.mark.parametrize("ending", [".npy", ".txt", ".csv"])
def test_a_file_has_a_number_for_each_character_that_units_and_probes_use(ending, tmp_path):
    session = learned()
    text, h = session.config.text, session.units().values
    numbers = np.round(3 * h[:, 2] - h[:, 4] + 0.5, 4).astype(float)  # of two units, which no named feature is
    path = tmp_path / f"mine{ending}"
    if ending == ".npy":
        np.save(path, numbers)
    else:
        path.write_text((" " if ending == ".txt" else ",").join(map(str, numbers)) + "\n")
    found = session.feature(str(path))
    assert found.name == path.name
    assert found.values(text) == pytest.approx(numbers)
    activity = session.units()
    assert [each.name for each in activity.own] == [path.name]
    (probe,) = [each for each in activity.probes() if each.feature == path.name]
    assert probe.r2 > 0.999
    units = [each.what for each in activity.goes_with()]
    best = np.array([abs(activity.feature_correlations(each)) for each in activity.known])
    was = np.array([abs(activity.before.feature_correlations(each)) for each in activity.known])
    assert units == [activity.known[i].name for i in (best - was).argmax(axis=0)]
    with pytest.raises(TuiGruError, match="for the characters of another text"):
        found.values("another")


def test_numbers_that_are_no_feature_are_refused(tmp_path):
    session = learned()
    n = len(session.config.text)
    np.save(tmp_path / "few.npy", np.zeros(3))
    np.save(tmp_path / "wide.npy", np.zeros((n, 2)))
    np.save(tmp_path / "none.npy", np.full(n, np.nan))
    (tmp_path / "words.txt").write_text("one two")
    for typed, why in (
        (str(tmp_path / "few.npy"), rf"few.npy gives 3 numbers; a feature has one for each of the {n} characters"),
        (str(tmp_path / "wide.npy"), f"wide.npy gives {n}x2 numbers"),
        (str(tmp_path / "none.npy"), "none.npy has no finite number"),
        (str(tmp_path / "words.txt"), "words.txt cannot be read as numbers, one for each character"),
        (str(tmp_path / "nothing.npy"), "nothing.npy: no such file"),
        (str(tmp_path / "nothing.txt"), "nothing.txt cannot be read as numbers"),
        ("h * 2", r"h \* 2 is 5 numbers for each character; .* as in max\(abs\(h\)\); write \[h \* 2\] for the set"),
        ("max(abs(hh))", "unknown name hh"),
        ("loss + 1", "'loss' is not a value of every character"),
    ):
        with pytest.raises(TuiGruError, match=why):
            session.feature(typed)
    assert session.units().own == ()


def test_what_is_no_expression_is_still_a_name_or_characters():
    session = learned()
    assert session.feature("vowels") is FEATURES["vowels"]
    assert session.feature("a-e").values("a-de").tolist() == [True, True, False, True]
    assert session.feature("[h(]").name == "[h(]"
    assert session.feature("(").values("a(").tolist() == [False, True]


def test_a_number_that_is_not_finite_counts_as_the_mean_of_the_others():
    found = feature_of_numbers("mine", "", np.array([1.0, np.nan, 3.0, np.inf]), "abcd")
    assert found.values("abcd").tolist() == [1, 2, 3, 2]
