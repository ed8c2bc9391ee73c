"""The list of findings: what is wrong with the run, why it matters, the evidence, and how to fix it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style
from textual.message import Message

from tui_gru.debugger.analysis.findings.finding import Evidence, Finding
from tui_gru.debugger.snapshots.snapshot import Snapshot
from tui_gru.tui.look.characters import folded
from tui_gru.tui.look.glyphs import transliterate
from tui_gru.tui.verbs.verb import with_keys
from tui_gru.tui.widgets.list_overlay import ListOverlay, ListRow
from tui_gru.tui.widgets.snapshot_panel import Titles

_NONE = "Nothing was found: sampler, rows, gradients, units and loss are as in a healthy run."
_EARLY = "No batch has been finished yet, so there is little to look at."


class FindingsList(ListOverlay):
    """The findings. Enter on a number shows where it comes from, on a finding goes to the place in the run that shows it."""

    ABOUT = "What is wrong with the run: the numbers that show it, why it matters, and how to fix it."

    @dataclass
    class Chosen(Message):
        """Posted to go to a finding, or to show where a number that is evidence for it comes from."""

        finding: Finding
        evidence: Evidence | None

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__()
        self.findings = tuple(findings)
        self._entries: list[tuple[Finding, Evidence | None]] = [
            entry for each in self.findings for entry in ((each, None), *((each, e) for e in each.evidence if e.number is not None))
        ]

    def titles(self, snapshot: Snapshot) -> Titles:
        count = len(self.findings)
        hints = [with_keys(self, "<findings> looks again"), with_keys(self, "<stop> closes")]
        if count:
            hints.insert(0, "enter: go there, or where a number comes from")
        return f"findings: {count or 'none'}", hints

    def lines(self, width: int) -> Sequence[ListRow]:
        palette = self.palette
        if not self.findings:
            early = self.snapshot.position.tick < self.snapshot.program.loss_tick
            return [self._line(words, palette.plain) for words in folded(_EARLY if early else _NONE, width)]
        found: list[ListRow] = []
        entry = 0
        for each in self.findings:
            if found:
                found.append(ListRow(()))
            found += [self._line(words, palette.warning, entry, "▲ ") for words in folded(each.title, width - 2)]
            found += [self._line(words, palette.plain, entry, "  ") for words in folded(each.meaning, width - 2)]
            for evidence in each.evidence:
                entry += evidence.number is not None
                own = entry if evidence.number is not None else None
                ink = palette.plain if own is None else palette.keyword
                first = "· "
                for words in folded(evidence.words, width - 4):
                    found.append(self._line(words, ink, own, f"  {first}"))
                    first = "  "
            found += [self._line(words, palette.gate, None, "  ") for words in folded(f"cure: {each.cure}", width - 2)]
            entry += 1
        return found

    def choose(self) -> None:
        finding, evidence = self._entries[self.cursor]
        self.post_message(self.Chosen(finding, evidence))

    def _line(self, words: str, ink: Style, entry: int | None = None, lead: str = "") -> ListRow:
        return ListRow((Segment(transliterate(f"{lead}{words}", self.palette.glyphs), ink),), entry)
