"""What moves while a run lasts: what the model writes, or predicts of numbers, and how far the run has come."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from tui_gru import analysis
from tui_gru.analysis.summaries import limits_of, saturating, summary
from tui_gru.debugger.drafts import TextDraft
from tui_gru.debugger.position import place_name
from tui_gru.engine import numbers
from tui_gru.engine.config import Text
from tui_gru.engine.source import Ability
from tui_gru.session.snapshot import Snapshot, View
from tui_gru.tui.draw import EMPTY, Box, SegmentRow, bar, clip, from_rows, row_width, shortened_row, styled_row, text_box, vstack
from tui_gru.tui.keys import with_keys
from tui_gru.tui.panel import SnapshotPanel, Titles
from tui_gru.tui.panels.time import baselines_of
from tui_gru.tui.plots import plot
from tui_gru.tui.theme import Palette, folded, transliterate, written_char

if TYPE_CHECKING:
    from tui_gru.analysis.drafts import Piece

# ------------------------------------------------------------------------------
# What the model writes after more and more batches; for a model of numbers, what it predicts beside the targets.


_BATCH, _LOSS, _COUNT, _GAP = 7, 6, 8, 3  # cells of the columns, and the blanks between them
_ROOMY = 64  # columns of a panel that has all columns; a narrower one has no losses, and then no counts


class Output(SnapshotPanel):
    """Samples after more and more batches with the same random numbers, the words of the text bright; the last row is of now. For a
    model of numbers the predictions of a row of the batch, over its targets."""

    ABOUT = (
        "What the model writes after more and more batches, always with the same random numbers: bright is what stands in the text "
        "that it learns. The last row is of this place. Of numbers, its predictions over the targets of this batch."
    )

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        return snapshot.position.tick, snapshot.state.branch, len(snapshot.drafts), view.row, view.pace is None

    def titles(self, snapshot: Snapshot) -> Titles:
        place = _place(snapshot)
        if not snapshot.config.text:
            return Titles("what it predicts", f"row {_row(self._view) + 1}: line predicted, dots target", place)
        keys = with_keys(self, "<stop> stops" if snapshot.passing else "<sample> longer  <stop> closes")
        data = "bright: in the text" if isinstance(snapshot.corpus.text, str) else None
        return Titles("what it writes", data, place, keys)

    def wanted_height(self, snapshot: Snapshot, width: int) -> int:
        return self.gutter.height + (1 + len(self._rows(snapshot)) if snapshot.config.text else 12)

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        if not snapshot.config.text:
            return clip(self.palette, _predictions(self.palette, snapshot, _row(self._view), width, height), width, height)
        drafts = self._rows(snapshot)
        if not drafts:
            return EMPTY
        shown = drafts if self.zoomed else _spread(drafts, height - 1)
        head = _draft_head(self.palette, drafts[0], width)
        rows = [_draft_row(self.palette, snapshot, draft, width, now=draft is drafts[-1]) for draft in shown]
        return from_rows([head, *rows])

    def _rows(self, snapshot: Snapshot) -> Sequence[TextDraft]:
        """Return the drafts up to here, and what the model writes now."""
        now = snapshot.draft
        earlier = [draft for draft in snapshot.drafts if now is None or draft.tick < now.tick]
        return earlier if now is None else [*earlier, now]


def _place(snapshot: Snapshot) -> str:
    """Return the epoch and the batch as `e3 b2`; the start has no batch yet."""
    return " ".join(place_name(snapshot.position).split()[:2]) if snapshot.position.tick else "start"


def _row(view: View) -> int:
    return view.row or 0


def _spread(drafts: Sequence[TextDraft], room: int) -> Sequence[TextDraft]:
    """Return as many drafts as there is room for: the first, and the newest."""
    if len(drafts) <= room:
        return drafts
    return [drafts[0], *drafts[len(drafts) - room + 1 :]] if room > 2 else drafts[len(drafts) - max(room, 0) :]


def _columns(width: int) -> tuple[bool, bool]:
    """Return whether there is room for the losses, and for the counts of words."""
    return width >= _ROOMY, width >= _ROOMY - _LOSS - _GAP


def _draft_head(palette: Palette, draft: TextDraft, width: int) -> SegmentRow:
    losses, counts = _columns(width)
    words = "batch".rjust(_BATCH) + ("loss".rjust(_LOSS + _GAP) if losses else "")
    words += " " * _GAP + ("in text".ljust(_COUNT) + " " * _GAP if counts else "")
    primer = "".join(written_char(char, palette.glyphs) for char in draft.primer)
    return shortened_row(palette, styled_row(palette, (f"{words}after “{primer}”", palette.dim)), width)


def _draft_row(palette: Palette, snapshot: Snapshot, draft: TextDraft, width: int, *, now: bool) -> SegmentRow:
    """Draw the batches, their mean loss, how much of the draft stands in the text, and the draft."""
    losses, counts = _columns(width)
    batches, text = draft.tick // snapshot.program.ticks, snapshot.corpus.text
    ink = palette.accent if now else palette.plain
    row = [Segment(f"{batches:,}".rjust(_BATCH), ink)]
    if losses:
        mean = analysis.drafts.mean_loss(snapshot.losses, batches)
        row.append(Segment(("" if mean is None else numbers.four(mean)).rjust(_LOSS + _GAP), ink))
    row.append(Segment(" " * _GAP))
    if counts:
        counted = analysis.drafts.counted_pieces(draft.text, text)
        words = "" if counted is None else f"{counted[0]} of {counted[1]}"
        row.append(Segment(words.ljust(_COUNT + _GAP), palette.strong if now else palette.plain))
    row += _written(palette, draft, text)
    shown = shortened_row(palette, tuple(row), width)
    return (*shown, Segment(" " * (width - row_width(shown)))) if now else shown


def _written(palette: Palette, draft: TextDraft, text: Text) -> Iterator[Segment]:
    """Draw what follows the first word, dim, and bright what stands in the text."""
    pieces: tuple[Piece, ...] = analysis.drafts.pieces_of(draft.text, text)
    bright = {at for piece in pieces if piece.stands for at in range(piece.start, piece.end)}
    yield Segment("".join(written_char(char, palette.glyphs) if char != " " else char for char in draft.primer), palette.dim)
    start = 0
    for at in range(1, len(draft.text) + 1):
        if at == len(draft.text) or (at in bright) != (start in bright):
            part = "".join(char if char == " " else written_char(char, palette.glyphs) for char in draft.text[start:at])
            yield Segment(part, palette.gate + Style(bold=True) if start in bright else palette.dim)
            start = at


def _predictions(palette: Palette, snapshot: Snapshot, row: int, width: int, height: int) -> Box:
    """Plot the predictions of a row of the batch over its targets, a chart for each of the first outputs that fit."""
    prediction, target = snapshot.program.loss_names.prediction, snapshot.program.target
    if not snapshot.has_arrays or not target or not prediction:
        return EMPTY
    values, targets = (np.asarray(snapshot.record.array(name), np.float64)[:, row] for name in (prediction, target))  # (T, O)
    if snapshot.config.vocab_size and targets.ndim == 1:  # classes: how probable the right one was
        right = values[np.arange(len(targets)), targets.astype(int)]
        title = text_box(palette, "the probability of the right class, by timestep", palette.dim)
        return vstack(title, plot(palette, right, width, max(height - 1, 0)).box)
    outputs = values.shape[1]
    fit = max(min(outputs, height // 6), 1)
    each = height // fit
    charts = [
        plot(palette, values[:, output], width, each, second=targets[:, output]).box if each > 1 else EMPTY for output in range(fit)
    ]
    return vstack(*charts)


# ------------------------------------------------------------------------------
# How far the run has come, in the place of the listing.


_NAMED = 4  # columns for the names of weights and gates, at least


class RunSummary(SnapshotPanel):
    """How fast the run is; which baselines it has overtaken, and when; the norms of the weights at first and now; the gates; what
    is wrong; and the words it has written, by the batch that had them first."""

    ABOUT = (
        "How far the run has come: the losses of guessing and counting, and the batch at which the mean loss was below them; the "
        "norm of each weight in the beginning and now, with the share that the last update changed; the gates in this batch; "
        "findings; and the words of the text that the model has written, by the batch that had them first."
    )

    def reads(self, snapshot: Snapshot, view: View) -> Hashable:
        return snapshot.position.tick, snapshot.state.branch, len(snapshot.drafts), view.pace, snapshot.findings

    def titles(self, snapshot: Snapshot) -> Titles:
        keys = "<stop> stops" if snapshot.passing else "<stop> the listing"
        return Titles("the run", None, _place(snapshot), with_keys(self, keys))

    def content(self, snapshot: Snapshot, width: int, height: int) -> Box:
        palette = self.palette
        groups = [
            group
            for group in (
                self._pace(snapshot, width),
                _overtaken(palette, snapshot, width),
                _weights(palette, snapshot, width),
                _gates(palette, snapshot, width),
                _wrong(palette, snapshot, width),
                _words(palette, snapshot, width),
            )
            if group
        ]
        rows: list[SegmentRow] = []
        for group in groups:
            if rows and len(rows) + 1 + len(group) > height and not self.zoomed and len(group) > 2:
                group = group[: max(height - len(rows) - 1, 0)]
                if len(group) < 2:  # a heading alone says nothing
                    break
            rows += [(), *group] if rows else group
        return from_rows([shortened_row(palette, row, width) for row in rows])

    def _pace(self, snapshot: Snapshot, width: int) -> list[SegmentRow]:
        palette, pace = self.palette, self._view.pace
        done = numbers.counted(len(snapshot.losses[: _batches(snapshot)]), "batch")
        if pace is None or pace.seconds <= 0:
            return [styled_row(palette, (done, palette.strong))]
        rate = pace.batches / pace.seconds
        speed = f"{rate:,.0f} a second" if rate >= 10 else f"{rate:.1f} a second"
        words = f", {pace.batches:,} in {pace.seconds:.1f} s" if pace.batches != _batches(snapshot) else f" in {pace.seconds:.1f} s"
        return [styled_row(palette, (done, palette.strong), (f"{words}, {speed}", palette.dim))]


def _batches(snapshot: Snapshot) -> int:
    """Return how many batches have been done at this place."""
    return snapshot.position.tick // snapshot.program.ticks


def _between(left: SegmentRow, right: SegmentRow, width: int) -> SegmentRow:
    """Return two parts of a row at its ends."""
    return (*left, Segment(" " * max(width - row_width(left) - row_width(right), 1)), *right)


def _overtaken(palette: Palette, snapshot: Snapshot, width: int) -> list[SegmentRow]:
    """Return the baselines, each with its loss and the batch at which the mean loss was below it, and that mean now."""
    batches = _batches(snapshot)
    losses = np.asarray(snapshot.losses[:batches], np.float64)
    if not len(losses):
        return []
    ok, here = transliterate("✓", palette.glyphs), palette.glyphs.arrow
    rows = [
        _between(
            styled_row(palette, ("what it has overtaken", palette.strong)), styled_row(palette, ("at batch", palette.dim)), width
        )
    ]
    for name, level in baselines_of(snapshot):
        at = analysis.drafts.overtaken_at(losses, level)
        sign = (f"{ok} ", palette.gate) if at is not None else "  "
        words = (f"{name:<22}{numbers.decimals(level, 2):>6}", palette.plain if at is not None else palette.dim)
        end = ("" if at is None else f"{at:,}", palette.strong)
        rows.append(_between(styled_row(palette, sign, words), styled_row(palette, end), width))
    if len(losses) >= analysis.drafts.WINDOW:
        mean = float(losses[-analysis.drafts.WINDOW :].mean())
        level_now = f"loss, mean of {analysis.drafts.WINDOW:<8}{numbers.four(mean):>6}"
        rows.append(styled_row(palette, (f"{here} ", palette.accent), (level_now, palette.accent)))
    return rows if len(rows) > 1 else []


def _weights(palette: Palette, snapshot: Snapshot, width: int) -> list[SegmentRow]:
    """Return the norm of each matrix of weights at first and now, and the share of it that the last update changed."""
    if not snapshot.has_arrays:
        return []
    program, weights = snapshot.program, snapshot.moment.weights
    first = snapshot.drafts[0].norms if snapshot.drafts and not snapshot.drafts[0].tick else ()
    at_first = dict(zip(weights.names, first, strict=True)) if len(first) == len(weights.names) else {}
    names = [name for name in weights.names if len(program.names[name].axes) > 1]
    now = {name: float(np.linalg.norm(np.asarray(weights[name], np.float64))) for name in names}
    most = max((value for value in (*now.values(), *at_first.values()) if math.isfinite(value)), default=0.0)
    name_width = max(map(cell_len, map(program.writer.name, names)), default=0) + 1
    room = width - name_width - 25
    heads = f"{'norm → now' if at_first else 'norm':>15}   a step"
    rows = [
        _between(
            styled_row(palette, ("the weights", palette.strong)),
            styled_row(palette, (transliterate(heads, palette.glyphs), palette.dim)),
            width,
        )
    ]
    for name in names:
        step, norm = snapshot.last_step(name), now[name]
        share = "" if step is None or not norm else _percent(float(np.linalg.norm(np.asarray(step, np.float64))) / norm)
        before = transliterate(f"{numbers.four(at_first[name]):>5} → ", palette.glyphs) if name in at_first else " " * 8
        length = bar(palette, norm / most if most else 0.0, room) if room >= _NAMED else ""
        first_part = min(round(room * at_first.get(name, 0.0) / most) if most else 0, len(length.rstrip()))
        lengths = (length[:first_part], palette.gate), (length[first_part:], palette.faint)
        values = styled_row(
            palette, (before, palette.dim), (f"{numbers.four(norm):>5}", palette.strong), (f"{share:>9}", palette.plain)
        )
        named = styled_row(palette, (_named(program.writer.name(name), name_width), palette.plain), *lengths)
        rows.append(_between(named, values, width))
    return rows


def _named(name: str, width: int) -> str:
    return name + " " * max(width - cell_len(name), 0)


def _percent(share: float) -> str:
    """Format the share of a weight that a step changes: `0.3 %`, `12 %`."""
    if 0 < share < 0.0005:
        return "<0.1 %"
    return f"{100 * share:.1f} %" if share < 0.1 else numbers.percent(share)


def _gates(palette: Palette, snapshot: Snapshot, width: int) -> list[SegmentRow]:
    """Return how many entries of each gate and state of the batch are near a limit of its function."""
    if not snapshot.has_arrays:
        return []
    program, rows = snapshot.program, list[SegmentRow]()
    for name in saturating(program):
        limits = limits_of(program, name)
        if limits is None or not snapshot.moment.executed(name, 0):
            continue
        counts = summary(np.asarray(snapshot.record.array(name)), limits, bins=0)
        if limits.low < 0:
            words = [f"{numbers.short_percent(counts.share(counts.saturated)):>4} near ±{limits.high:g}"]
        else:
            words = [
                f"{numbers.short_percent(counts.share(count)):>4} near {limit:g}"
                for count, limit in ((counts.low, limits.low), (counts.high, limits.high))
            ]
        label = styled_row(palette, (_named(program.writer.name(name), _NAMED), palette.plain))
        rows.append(_between(label, styled_row(palette, ("   ".join(words), palette.plain)), width))
    head = styled_row(palette, ("the gates", palette.strong), (", of all units and rows", palette.dim))
    return [head, *rows] if rows else []


def _wrong(palette: Palette, snapshot: Snapshot, width: int) -> list[SegmentRow]:
    """Return the findings of the last search, which is made after a long run."""
    if not snapshot.findings:
        return []
    rows = [styled_row(palette, ("what is wrong", palette.strong))]
    for finding in snapshot.findings[:4]:
        words = folded(transliterate(finding.title, palette.glyphs), max(width - 2, 8))
        rows.append(styled_row(palette, (f"{palette.glyphs.here} ", palette.warning), (words[0], palette.plain)))
    return rows


def _words(palette: Palette, snapshot: Snapshot, width: int) -> list[SegmentRow]:
    """Return the words of the text that the drafts have for the first time, by batch."""
    text = snapshot.corpus.text if snapshot.config.source.can(Ability.TEXT) and snapshot.config.text else ""
    if not analysis.drafts.words_of(text):
        return []
    ticks = snapshot.program.ticks
    listed = analysis.drafts.first_words(snapshot.drafts, [draft.tick // ticks for draft in snapshot.drafts], text)
    rows = [styled_row(palette, ("its first words, by batch", palette.strong))]
    rows += [styled_row(palette, (f"{new.batches:>6,} ", palette.dim), (" ".join(new.words), palette.gate)) for new in listed]
    return rows if len(rows) > 1 else []
