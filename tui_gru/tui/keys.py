"""Every verb of the screen, once: its keys, its name on the `:` line, what it does, and the words that help shows."""

from __future__ import annotations

from typing import NamedTuple

from textual.binding import Binding


class Verb(NamedTuple):
    """`id` is what a key file remaps, `action` what the main screen does, `label` the word beside the key in the footer; `help` is
    what `?` shows, with names of the model (`example`).

    Without a label it is not in the footer. `rank` orders the footer: what does not fit is dropped, the highest rank first.
    """

    id: str
    keys: str
    action: str
    label: str
    help: str
    group: str
    rank: int = 9

    @property
    def binding(self) -> Binding:
        return Binding(self.keys, self.action, self.label, show=bool(self.label), id=self.id, tooltip=self.help)


_STEP, _LEARN, _GO, _STOP, _LOOK, _MATTERS, _ELSE = "Step", "Learn", "Go", "Stop", "Look", "What matters", "And"

VERBS = (
    Verb("step.line", "o", "step('op', 1)", "line", "one line of the program", _STEP, 1),
    Verb("back.line", "O", "step('op', -1)", "", "one line back in time", _STEP),
    Verb("step.timestep", "s,right", "step('timestep', 1)", "timestep", "one timestep", _STEP, 1),
    Verb("back.timestep", "S,left", "step('timestep', -1)", "", "one timestep back in time", _STEP),
    Verb("step.batch", "n", "step('batch', 1)", "batch", "to the end of the batch", _STEP, 1),
    Verb("back.batch", "N", "step('batch', -1)", "", "one batch back in time", _STEP),
    Verb("step.epoch", "e", "step('epoch', 1)", "epoch", "to the end of the epoch", _STEP, 2),
    Verb("back.epoch", "E", "step('epoch', -1)", "", "one epoch back in time", _STEP),
    Verb("step.phase", "f", "step('phase', 1)", "", "to the end of this phase (forward, backward, update)", _STEP),
    Verb("back.phase", "F", "step('phase', -1)", "", "to the start of this phase", _STEP),
    Verb("repeat", "full_stop", "repeat", "", "repeat the last step", _STEP),
    Verb("play", "space", "play", "play", "play and pause: steps by itself, at the level of the last step", _STEP, 5),
    Verb("play.faster", "plus", "speed(1)", "", "play faster", _STEP),
    Verb("play.slower", "minus", "speed(-1)", "", "play slower", _STEP),
    Verb("learn.sgd", "a", "sgd", "SGD step", "an SGD step: finish this batch, backward, update", _LEARN, 2),
    Verb(
        "learn.toggle",
        "l",
        "learning",
        "learning",
        "learning on or off: batches end with backward and update, or do not",
        _LEARN,
        3,
    ),
    Verb("check", "k", "check", "check", "check this batch against PyTorch and finite differences", _LEARN, 7),
    Verb("sample", "p", "sample", "sample", "sample text with the weights of this moment", _LEARN, 3),
    Verb("undo", "u", "undo", "undo", "undo the last change", _LEARN, 7),
    Verb("redo", "U", "redo", "", "redo it", _LEARN),
    Verb("go", "g", "command('go ')", "go to", "go to a place: e3 b2 t1, 50%, +100, -2e, or a tick", _GO, 4),
    Verb("go.newest", "G", "newest", "", "to the newest moment reached", _GO),
    Verb("until", "t", "command('until ')", "until", "run until a condition holds: loss < 0.5", _GO, 6),
    Verb("back.until", "T", "command('back ')", "", "back in time until a condition holds", _GO),
    Verb("stop", "escape", "escape", "", "stop a run, leave a panel, forget a count", _GO),
    Verb("explain", "enter", "explain", "explain", "where the number under the cursor comes from", _LOOK, 4),
    Verb("continue", "c", "continue(1)", "continue", "run to the next breakpoint or changed watch", _STOP, 3),
    Verb("back.continue", "C", "continue(-1)", "", "back in time to the last one", _STOP),
    Verb("breakpoint", "b", "breakpoint", "break", "breakpoint on the line at work; again deletes it", _STOP, 4),
    Verb("watch", "w", "command('watch ')", "watch", "watch an expression: max(abs($h))", _STOP, 6),
    Verb("stops", "B", "stops", "", "list, edit, delete breakpoints, watches, marks", _STOP),
    Verb("match.next", "right_square_bracket", "match(1)", "", "next match of the last condition", _STOP),
    Verb("match.back", "left_square_bracket", "match(-1)", "", "the match before", _STOP),
    Verb("not.finite", "circumflex_accent", "not_finite", "", "to the first number of the run that is not finite", _GO),
    Verb("mark", "m", "letter('mark')", "", "mark this place, under the letter typed next", _STOP),
    Verb("jump", "apostrophe", "letter('jump')", "", "jump to the mark of the letter typed next; ' goes back", _STOP),
    Verb("suppose", "i", "suppose", "", "another number in its place: what would follow, and enter keeps it", _LOOK),
    Verb("row", "r", "row(1)", "row", "single out the next row of the batch", _LOOK, 6),
    Verb("row.back", "R", "row(-1)", "", "single out the row before", _LOOK),
    Verb("layer", "L", "layer", "", "another layer or direction: its gates, weights and gradients; at last the one at work", _LOOK),
    Verb("weights", "x", "weights", "", "weights, gradients, or the change of the last step", _LOOK),
    Verb("reading", "at", "reading", "", "a model file in the other conventions: reset before or after, z keeps or takes", _LOOK),
    Verb("branches", "J", "branches", "", "the list of branches: go to one, rename it, delete it", _LOOK),
    Verb("page", "v", "page", "view", "the next page of panels, on a small screen", _LOOK, 0),
    Verb("compare", "equals_sign", "compare", "", "compare with another branch: differences, values, neither", _LOOK),
    Verb("zoom", "z", "zoom", "zoom", "the panel in focus on the whole screen, and back", _LOOK, 6),
    Verb("panel.next", "tab", "focus_panel(1)", "", "next panel", _LOOK),
    Verb("panel.back", "shift+tab", "focus_panel(-1)", "", "panel before", _LOOK),
    Verb("findings", "exclamation_mark", "findings", "findings", "what is wrong with this run, why, and the cure", _MATTERS, 6),
    Verb("units", "h", "units", "units", "units over the text: what each goes with, and where it is on", _MATTERS, 7),
    Verb("influence", "y", "influence", "", "what a prediction depends on: the influence of every earlier character", _MATTERS),
    Verb("losses", "d", "losses", "", "where the loss is made: by class of character, timestep, row; hardest places", _MATTERS),
    Verb("arrays", "W", "arrays", "", "every array in a line: saturated, dead, near 0, largest entry, histogram", _MATTERS),
    Verb("largest", "asterisk", "largest", "", "the largest entry of a matrix; again: the next largest", _MATTERS),
    Verb("largest.gradient", "ampersand", "largest('gradients')", "", "the largest gradient of all weights", _MATTERS),
    Verb("largest.change", "percent_sign", "largest('changes')", "", "the largest change of the last step", _MATTERS),
    Verb("saturated", "tilde", "saturated", "", "the next saturated unit of a gate or state", _MATTERS),
    Verb("sort", "comma", "sort", "", "sort rows, columns, both, or neither of a heat map by size", _MATTERS),
    Verb("near.zero", "underscore", "near_zero", "", "hide or show the entries near 0 of a heat map", _MATTERS),
    Verb("command", "colon", "command('')", "command", "the command line", _ELSE, 5),
    Verb("help", "question_mark", "help", "keys", "what is in focus, explained in sentences; all keys and commands", _ELSE, 0),
    Verb("legend", "semicolon", "legend", "", "the legend: what colours and signs mean", _ELSE),
    Verb("quit", "q", "quit", "quit", "quit", _ELSE, 4),
)
COUNTS = tuple(Binding(str(digit), f"digit({digit})", show=False, id=f"count.{digit}") for digit in range(10))
KEYS = {verb.id: verb.keys for verb in VERBS}
BINDINGS = [*(verb.binding for verb in VERBS), *COUNTS]
GROUPS = tuple(dict.fromkeys(verb.group for verb in VERBS))


def footer_verbs() -> tuple[Verb, ...]:
    """The verbs that have a word in the footer."""
    return tuple(verb for verb in VERBS if verb.label)
