"""What is asked at a moment of a run: the questions that fit typed words, and their commands filled with the numbers, names and
texts among these words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np

from tui_gru import analysis
from tui_gru.debugger.expressions import compile_condition
from tui_gru.debugger.position import typed_entry
from tui_gru.debugger.program import Program, ValueKind, flow_names, in_line
from tui_gru.engine.numbers import plain
from tui_gru.engine.sampling import refused
from tui_gru.engine.source import Ability
from tui_gru.equations.functions import FUNCTIONS
from tui_gru.errors import TuiGruError
from tui_gru.session.snapshot import Snapshot
from tui_gru.tui.about import TERMS, term
from tui_gru.tui.keys import example
from tui_gru.tui.questions import ASKING, COMMON, SYNONYMS, ListedQuestion, questions, ranking, words_of

MOST = 40  # questions that are listed
_SLOT = re.compile(r"\{(\w+)(?:=([^{}]*))?\}")
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"


class Matched(NamedTuple):
    """A question of this moment, with its command. `place` is its own among all questions, −1 if it is none of them; `filled` is
    True if something typed is in the command."""

    question: str
    command: str
    place: int
    filled: bool = False


def matching(snapshot: Snapshot, typed: str) -> list[Matched]:
    """Return the questions that fit what is typed, best first; an entry of a value typed alone is asked about first."""
    words = TypedWords(snapshot, typed)
    fits = ranking().rank(words.typed)
    listed = ((fit.place, questions()[fit.place]) for fit in fits)
    matched = [with_slots_filled(question, place, words) for place, question in listed if can_be_asked(snapshot, question)]
    fills = (i for i, match in enumerate(matched[:3]) if match.filled and _FILLED_WELL.search(questions()[match.place].commands))
    filled = next(fills, 0)
    if filled and matched[0].command.partition(" ")[0] in ("help", "go", "why") and not matched[0].filled:
        matched.insert(0, matched.pop(filled))
    if words.term is not None and words.is_about_a_word:
        asked_for = Matched(f"What is {words.term}?", f"help {words.term}", -1, True)
        matched = [asked_for, *(match for match in matched if match.command != asked_for.command)]
    if words.entry is not None and not words.words_besides:
        first = [f"Where does {words.entry} come from?"]
        matched = [
            *(Matched(question, f"why {words.entry}", -1, True) for question in first),
            *(match for match in matched if match.command != f"why {words.entry}"),
        ]
    return matched[:MOST]


def all_of(snapshot: Snapshot) -> Iterator[tuple[str, list[Matched]]]:
    """Yield the groups of the file, each with the questions that can be asked of this run."""
    words = TypedWords(snapshot, "")
    groups: dict[str, list[Matched]] = {}
    for index, question in enumerate(questions()):
        if can_be_asked(snapshot, question):
            groups.setdefault(question.group, []).append(with_slots_filled(question, index, words))
    yield from groups.items()


def of_this_moment(snapshot: Snapshot, panel: str = "") -> list[Matched]:
    """Return the questions that fit a panel, by the name of its class; without one, or without any, those that fit the moment."""
    words, kinds = TypedWords(snapshot, ""), _kinds_of_moment(snapshot)
    for wanted in ([panel] if panel else [], kinds):
        fitting = [
            with_slots_filled(question, index, words)
            for index, question in enumerate(questions())
            if set(question.at.split()).intersection(wanted) and can_be_asked(snapshot, question)
        ]
        if fitting:
            return fitting
    return []


def _kinds_of_moment(snapshot: Snapshot) -> list[str]:
    position = snapshot.position
    if not position.tick:
        return ["start"]
    if snapshot.settings.learning and position.epoch >= 2:
        return ["trained"]
    phase = "update" if snapshot.moment.learned and position.offset == snapshot.program.ticks else position.phase
    return ["loss"] if position.offset == snapshot.program.loss_tick else [phase]


def can_be_asked(snapshot: Snapshot, question: ListedQuestion) -> bool:
    """Return True if a run can answer a question: it can be trained, has a text, or text can be sampled from it."""
    source, program = snapshot.config.source, snapshot.program
    has: Mapping[str, Callable[[], bool]] = {
        "training": lambda: source.can(Ability.TRAIN),
        "text": lambda: source.can(Ability.TEXT),
        "sampling": lambda: source.can(Ability.TEXT) and refused(snapshot.config) is None,
        "layers": lambda: len(program.layers) > 1,
        "carry": lambda: _carry(snapshot) is not None,
        "clipping": lambda: snapshot.config.clip > 0,
        "gradients": lambda: snapshot.program.goes_back,
        "rate": lambda: source.can(Ability.TRAIN) and "learning_rate" in snapshot.program.names,
    }
    return all(has[need]() for need in question.needs.split())


def with_slots_filled(question: ListedQuestion, index: int, words: TypedWords) -> Matched:
    """Return a question and its command with their slots filled."""
    used = False

    def value(match: re.Match[str]) -> str:
        nonlocal used
        typed, standard = words.slot(match[1]), match[2]
        used |= typed is not None
        return typed if typed is not None else words.standard(match[1], standard or "")

    program = words.snapshot.program
    text = example(program, _SLOT.sub(value, question.text))
    used = False
    command = example(program, _SLOT.sub(value, question.commands))
    return Matched(text, command, index, used)


# ------------------------------------------------------------------------------
# What is typed: numbers, names, entries, texts.


class TypedWords:
    """What was typed, taken apart for the slots of questions about a moment."""

    def __init__(self, snapshot: Snapshot, typed: str) -> None:
        self.snapshot, self._names = snapshot, snapshot.program.spellings
        self._typed = self.typed = in_names(typed, snapshot.program)

    def slot(self, name: str) -> str | None:
        """Return what was typed for a slot, None if nothing was."""
        value = getattr(self, name, None)
        return None if value is None else str(value)

    def standard(self, name: str, written: str) -> str:
        """Return what a slot holds if nothing was typed for it."""
        match name:
            case "loss":
                return "what it is"
            case "sampling":
                return f"{self.text or self.standard('text', '')} 10 0.5"
            case "follows":
                return self._first_pair
            case "text":
                text = self.snapshot.corpus.text if self.snapshot.config.source.can(Ability.TEXT) else ""
                words = "" if isinstance(text, tuple) else re.split(r"(?<=\S)\s", text.lstrip(), maxsplit=1)[0]
                return words[:2] if len(words) > 12 or len(words) < 2 else words
        return written

    @property
    def _first_pair(self) -> str:
        """The condition that the second letter of the text is expected after the first."""
        program, text = self.snapshot.program, self.snapshot.corpus.text
        first, second = text[0], text[1]
        entry = typed_entry(program, program.loss_names.prediction, (0, program.indices[second]))
        return f'char[0] == "{first}" and {entry} > 0.5'

    # Slots

    @property
    def loss(self) -> str | None:
        loss = self.snapshot.value("loss")
        return None if loss is None else plain(float(loss))

    @property
    def number(self) -> str | None:
        """The first number that counts nothing: no unit, row, timestep, epoch or batch."""
        rest = re.sub(r"\w+\[[^]]*\]", " ", self._typed)
        rest = re.sub(rf"(?i)\b(?:unit|neuron|cell|row|epoch|batch|timestep|step|t|e|b)s?\s*{_NUMBER}", " ", rest)
        match = re.search(rf"(?<![\w.])-?{_NUMBER}(?![\w.]*\w)", rest)
        return None if match is None else match[0]

    @property
    def unit(self) -> str | None:
        """The unit that is named by its number, if the last layer has it."""
        counted = self._counted("unit|neuron|cell")
        most = self.snapshot.program.shapes[self.snapshot.program.main_state][-1]
        return counted if counted is not None and 1 <= int(counted) <= most else None

    @property
    def place(self) -> str | None:
        """A batch: of the whole run, of an epoch, or the first one of an epoch: step 40, epoch 3 batch 2, epoch 3."""
        step, epoch = self._counted("step|iteration|update|batch"), self.epoch
        if self.snapshot.config.source.steps:  # with numbers of their own
            return None
        if epoch is not None:
            return f"e{epoch} b{max(int(self._counted('batch') or 1), 1)}"
        if step is None or not int(step):
            return None
        epochs, batch = divmod(int(step) - 1, self.snapshot.program.num_batches)
        return f"e{epochs + 1} b{batch + 1}"

    @property
    def rate(self) -> str | None:
        """The number that is typed, unless another setting is named with it."""
        other = re.search(r"(?i)\b(?:momentum|clip\w*|decay|dropout|seed|size|units?|layers?)\b", self._typed)
        return None if other is not None else self.number

    @property
    def stopping(self) -> str | None:
        """The condition of a breakpoint, with the line where it is tested."""
        if self._condition_typed is not None or self._amount is not None:
            return None if self.condition is None else f"if {self.condition}"
        name, condition = self.name, self.condition
        return None if name is None else f"{name} if {condition or f'any({name} > 0.9)'}"

    @property
    def sampling(self) -> str | None:
        """The arguments of a sample: the text to begin with, the length, the temperature."""
        temperature = re.search(rf"(?i)temp(?:erature|eratur|\.)?\s*(?:of|=|:)?\s*({_NUMBER})", self._typed)
        length = re.search(r"(?i)\b(\d{1,4})\s*(?:characters|letters|chars|symbols)", self._typed)
        if temperature is None and length is None:
            return None
        primer = self.text or self.standard("text", "")
        return f"{primer} {length[1] if length else 10} {temperature[1] if temperature else 0.5}"

    @property
    def follows(self) -> str | None:
        """The condition that one letter is expected after another: t comes after a."""
        program, letters = self.snapshot.program, self.snapshot.program.indices
        pair = re.search(r"(\S)[\"”']?\s+(?:comes|follows|is|goes|stands)?\s*after\s+(?:an?\s+)?[\"“']?(\S)(?!\w)", self._typed)
        if pair is None or pair[1] not in letters or pair[2] not in letters or not program.loss_names.prediction:
            return None
        entry = typed_entry(program, program.loss_names.prediction, (0, letters[pair[1]]))
        return f'char[0] == "{pair[2]}" and {entry} > 0.5'

    @property
    def is_about_a_word(self) -> bool:
        """True if what is typed asks for the meaning of a word, or is nothing but a word."""
        if re.search(r"\d", self._typed) or (self.term in _WITH_VALUES and re.search(r"(?i)\bthe\b", self._typed)):
            return False
        asks = re.search(r"(?i)^\W*(?:\w{2,3}t'?s?|explain|define|meaning)\b|\bmean\w*\W*$|^\W*what does .* do\W*$", self._typed)
        besides = {*COMMON, *ASKING, "explain", "define", "meaning"}
        words = [word for word in words_of(self._typed) if word not in besides]
        return len(words) <= len((self.term or "").split()) and (asks is not None or len(words_of(self._typed)) == len(words))

    @property
    def term(self) -> str | None:
        """The longest word of the field that is typed, or misspelled."""
        typed = words_of(self._typed)
        for size in (4, 3, 2, 1):
            for i in range(len(typed) - size + 1):
                words = " ".join(typed[i : i + size])
                if words not in COMMON and words not in ASKING and (words in FUNCTIONS or term(words)):
                    return words
        known = [word for word in (*TERMS, *FUNCTIONS) if len(word) > 4]
        for word in typed:
            if len(word) > 4 and word not in COMMON and (near := get_close_matches(word, known, n=1, cutoff=0.85)):
                return near[0]
        return None

    @property
    def epoch(self) -> str | None:
        counted = self._counted("epoch|e")
        return None if counted is None or not int(counted) else counted

    @property
    def epochs(self) -> str | None:
        match = re.search(r"(\d[\d,]*)\s*(?:more\s*)?epochs?\b", self._typed)
        return None if match is None or not int(match[1].replace(",", "")) else match[1].replace(",", "")

    @property
    def t(self) -> str | None:
        counted = self._counted("timestep|step|t")
        return counted if counted is not None and 1 <= int(counted) <= self.snapshot.config.seq_length else None

    def _counted(self, words: str) -> str | None:
        match = re.search(rf"(?i)\b(?:{words})\s*(?:number\s*|no\.?\s*|#\s*)?(\d{{1,9}})\b", self._typed)
        return None if match is None else match[1]

    @property
    def entry(self) -> str | None:
        """The entry of a value: `z[row 1, unit 2]` as typed, or a name with the row, the unit, the letter that are named."""
        if (match := re.search(r"([^\s\[\],;]+)\[[^]]*\]?", self._typed)) is not None and match[1] in self._names:
            return match[0]
        name = self._name_typed()
        if name is None:
            return self._entry_shown
        program = self.snapshot.program
        counted = program.names[name].counted
        index = [self._index(axis.strip(), size) for axis, size in zip(counted, program.shapes[name], strict=False)]
        return typed_entry(program, name, index) if len(index) == len(program.shapes[name]) else None

    @property
    def _entry_shown(self) -> str | None:
        """The first entry of this timestep that is shown as the number that is typed: where does this 0.37 come from."""
        match = re.search(r"(?i)\b(?:this|the|that|why|number|value)\s+([-−]?\d*\.(\d{2,}))(?!\w)", self._typed)
        if match is None or "loss" in words_of(self._typed):
            return None
        number, half, program = float(match[1].replace("−", "-")), 0.5 * 10.0 ** -len(match[2]), self.snapshot.program
        for name, named in program.names.items():
            value = self.snapshot.value(name) if named.timed and named.kind is not ValueKind.CHARACTER else None
            if value is None or not getattr(value, "ndim", 0) or not np.issubdtype(value.dtype, np.number):
                continue
            places = np.argwhere(np.abs(value - number) <= half * (1 + 1e-6))
            if len(places):
                return typed_entry(program, name, tuple(map(int, places[0])))
        return None

    def _index(self, axis: str, size: int) -> int:
        words = {"unit": "unit|neuron|cell", "row": "row"}.get(axis)
        counted = self._counted(words) if words is not None else None
        if counted is not None and 1 <= int(counted) <= size:
            return int(counted) - 1
        letter = self.letter if axis in ("character", "letter", "token") else None
        return self.snapshot.program.indices.get(letter, 0) if letter is not None else 0

    @property
    def weight_entry(self) -> str | None:
        """The entry of a weight."""
        entry = self.entry
        name = self._names.get("" if entry is None else entry.partition("[")[0])
        return entry if name is not None and self.snapshot.program.names[name].kind is ValueKind.PARAMETER else None

    @property
    def gradient(self) -> str | None:
        """The entry of a gradient: of the value whose entry or name is typed."""
        entry = self.entry
        if entry is None:
            return None
        name = entry.partition("[")[0]
        return entry if self._names.get(name, "").startswith("d") and name[1:] in self._names else f"d{entry}"

    @property
    def name(self) -> str | None:
        """The name of a value, or of what a line computes that is named in words: the update gate."""
        typed = self._name_typed()
        if typed is not None:
            return self.snapshot.program.writer.name(typed)
        program, lowered = self.snapshot.program, self._typed.lower()
        for line in program.model.page.lines:
            label = line.label or ""
            if label and re.search(rf"\b{re.escape(label)}\b", lowered) and (f"{label} gate" in lowered or "gate" not in lowered):
                target = next((name for name in program.main_layer.lines if name.split("_l")[0] == line.target), "")
                return program.writer.name(target) if target else None
        return None

    @property
    def timed(self) -> str | None:
        """The name of a value with units, which a unit of can be held at 0."""
        name = self.name
        if name is None:
            return None
        program = self.snapshot.program
        code = program.code_name(name)
        return name if analysis.units.can_be_silent(program.model, code) else None

    @property
    def condition(self) -> str | None:
        """What a run is to stop at: a value, or any entry of one, beyond the number that is typed."""
        if (typed := self._condition_typed) is not None:
            return typed
        letters, prediction = self.snapshot.program.indices, self.snapshot.program.loss_names.prediction
        predicted = re.search(r"(\S)[\"”']?\s+(?:is|was|gets)\s+(?:predicted|likely|the likeliest|said)", self._typed)
        if predicted is not None and predicted[1] in letters and prediction:
            return f"{typed_entry(self.snapshot.program, prediction, (0, letters[predicted[1]]))} > 0.5"
        number, amount = self.number, self._entry_alone or self._amount
        if number is None:
            return None
        sign = "<" if re.search(r"(?i)\b(?:below|under|less|lower|smaller|beneath|falls?|drops?)\b", self._typed) else ">"
        if amount is None and (name := self.name) is not None:
            return f"any({name} {sign} {number})"
        return None if amount is None else f"{amount} {sign} {number}"

    @property
    def _condition_typed(self) -> str | None:
        """A condition that is typed as one, with the previous loss for prev(loss): loss > 1.5 * previous loss."""
        typed = re.sub(r"(?i)\b(?:the )?(?:previous|last|prev)\s+(\w+)(?!\()", r"prev(\1)", self._typed)
        match = re.search(r"(?i)\b(?:when|if|until|till|once|where|while)\s+(?:the )?(.*[<>=].*?)[?.!]*$", typed)
        if match is None:
            return None
        try:
            compile_condition(match[1], self._names).check(self.snapshot.program.shapes)
        except TuiGruError:
            return None
        return match[1]

    @property
    def watched(self) -> str | None:
        """What is to be watched: an entry, an amount of the whole batch, or the largest entry of a value."""
        name, program = self.name, self.snapshot.program
        if self.unit is not None and name is not None and self._entry_alone is None:  # the forget gate of unit 3
            shape = program.shapes[program.code_name(name)]
            return typed_entry(program, name, (*(0,) * (len(shape) - 1), int(self.unit) - 1))
        return self._entry_alone or self._amount or (None if name is None else f"max(abs({name}))")

    @property
    def _entry_alone(self) -> str | None:
        """The entry whose indices are typed."""
        return self.entry if "[" in self._typed else None

    @property
    def _amount(self) -> str | None:
        """A number of a whole batch that is named in words: the norm of the gradient, the loss."""
        if self._name_typed() is None and re.search(
            r"(?i)gradients?['s]*\s+norm|norm\s+of\s+(?:the\s+|all\s+)?gradients?|^\D*\bnorm\b", self._typed
        ):
            return "grad_norm" if "grad_norm" in self.snapshot.program.names else None
        if (name := self._name_typed()) is not None and re.search(r"(?i)\bnorm\b", self._typed):
            return f"norm({self.snapshot.program.writer.name(name)})"
        return "loss" if re.search(r"(?i)\bloss\b", self._typed) and self._name_typed() is None else None

    @property
    def _two(self) -> tuple[str, str] | None:
        """The code names of the two values that are typed."""
        names = list(dict.fromkeys(self._all_names()))
        return None if len(names) < 2 else (names[0], names[1])

    @property
    def one(self) -> str | None:
        return None if self._two is None else self.snapshot.program.writer.name(self._two[0])

    @property
    def other(self) -> str | None:
        return None if self._two is None else self.snapshot.program.writer.name(self._two[1])

    @property
    def mixed(self) -> str | None:
        """The first entry of the one of two values that is computed from the other, else of the first."""
        if self._two is None:
            return None
        program, (one, other) = self.snapshot.program, self._two
        line = program.lines.get(other)
        name = other if line is not None and one in line.reads and one not in program.names_of(ValueKind.PARAMETER) else one
        return typed_entry(program, name, (0,) * len(program.shapes[name]))

    @property
    def delta(self) -> str | None:
        """The gradient of the first row where the backward pass begins, at the character that is to be predicted."""
        program, name = self.snapshot.program, self.snapshot.program.code_name(self.back or "")
        if name not in program.names:
            return None
        shape, target = program.shapes[name], self.snapshot.value(program.target) if program.target else None
        fits = target is not None and getattr(target, "shape", None) == shape and len(shape) == 2
        return typed_entry(program, name, (0, int(target[0].argmax())) if fits and target is not None else (0,) * len(shape))

    @property
    def weight(self) -> str | None:
        program, name = self.snapshot.program, self._name_typed()
        if name is None and re.search(r"(?i)\brecurrent (?:weight|connection|matri)|\brecurrence\b", self._typed):
            return next((group[1] for group in program.matrices_by_gate if len(group) > 1), None)
        return name if name is not None and program.names[name].kind is ValueKind.PARAMETER else None

    def _name_typed(self) -> str | None:
        """Return the code name of the first name of the program that is typed; words of English are none."""
        return next(self._all_names(), None)

    def _all_names(self) -> Iterator[str]:
        for word in re.findall(r"[^\s\[\],;:?!.()“”\"‖|]+", self._typed):
            code = self._names.get(word)
            if (
                code is not None
                and (len(word) == 1 or word.lower() not in COMMON)
                and word not in ("a", "t", "I", "i", "s", "loss")
            ):
                named = self.snapshot.program.names.get(code)
                is_counter = named is not None and named.kind is ValueKind.COUNTER  # a word of English, too
                if named is not None and not is_counter and len(self.snapshot.program.shapes[code]) == len(named.counted):
                    yield code

    @property
    def letter(self) -> str | None:
        """The letter of the vocabulary that is named: in quotes, or after the word letter."""
        match = re.search(r"“(.)”|\"(.)\"|'(.)'|(?i:letter|character|char)\s+(\S)(?!\w)", self._typed)
        letter = None if match is None else next(filter(None, match.groups()), None)
        return letter if letter is not None and letter in self.snapshot.program.indices else None

    @property
    def text(self) -> str | None:
        """The text to read: in quotes, or the last word after “after” and the like, if its characters are in the vocabulary."""
        quoted = re.search(r"“([^”]+)”|\"([^\"]+)\"|(?<!\w)'([^']+)'", self._typed)
        candidates = [next(filter(None, quoted.groups()))] if quoted is not None else []
        candidates += re.findall(
            r"\b(?:after|following|follows|reading|reads?|predict|primer|prefix|from|with|of|text)\s+([^\s?!]+)", self._typed
        )
        last = self._typed.rstrip("?!. ").rpartition(" ")[2]
        candidates += [last] if last and last.lower() not in COMMON and (last[:1].isupper() or len(last) > 1) else []
        vocabulary = self.snapshot.program.indices
        tokens = any(len(token) > 1 for token in vocabulary)
        for candidate in filter(None, candidates):
            is_word = candidate.lower() in COMMON or candidate.lower() in _SUBJECTS
            if not tokens and set(candidate) <= set(vocabulary) and (quoted is not None or not is_word):
                return str(candidate)
        return None

    @property
    def feature(self) -> str | None:
        """The feature of a text that is named, in the singular or the plural."""
        names = analysis.units.FEATURES
        for word in words_of(self._typed):
            for name in (word, f"{word}s", f"{word}es", word.removesuffix("s")):
                if name in names:
                    return name
        return None

    @property
    def prediction(self) -> str | None:
        """The likeliest entry of the prediction of the first row, at this moment."""
        program = self.snapshot.program
        name = program.loss_names.prediction
        value = self.snapshot.value(name) if name else None
        if name and value is not None and getattr(value, "ndim", 0) == 2:
            return typed_entry(program, name, (0, int(value[0].argmax())))
        return typed_entry(program, name, (0,) * len(program.shapes[name])) if name else None

    @property
    def line(self) -> str | None:
        """The result of the line just executed."""
        line = self.snapshot.line
        return None if line is None else self.snapshot.program.writer.name(line.target)

    @property
    def carry(self) -> str | None:
        return _carry(self.snapshot)

    @property
    def back(self) -> str | None:
        """The first line of the backward pass."""
        program = self.snapshot.program
        line = next((line for block in program.blocks if block.phase == "backward" for line in block.lines), None)
        return None if line is None else program.writer.name(line.target)

    @property
    def branch(self) -> str | None:
        """Another branch: the one that is named, else one that this branch is compared with by default."""
        state = self.snapshot.state
        others = [name for name in state.branches.names if name != state.branch]
        named = next((name for name in others if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", self._typed)), None)
        return named or next(iter(others), None)

    @property
    def words_besides(self) -> Sequence[str]:
        """The words besides the entry."""
        rest = self._typed.replace(self.entry or "", " ")
        return [word for word in words_of(rest) if word not in COMMON]


def in_names(typed: str, program: Program) -> str:
    """Return a question with the spellings of books and of PyTorch as names of the program: W_z, h~, h_{t-1}, W_hh."""
    names = program.spellings

    def known(match: re.Match[str]) -> str:
        base, below = match[1], match[2] or match[3]
        if match[0] in names:
            return match[0]
        if below.replace(" ", "") in ("t-1", "t−1", "prev") and f"{base}_prev" in names:
            return f"{base}_prev"
        if below in ("ih", "hh"):
            group = next((group for group in program.matrices_by_gate if len(group) > 1), ())
            return group[below == "hh"] if group else match[0]
        return f"{base}{below}" if f"{base}{below}" in names else base if below == "t" and base in names else match[0]

    def marked(match: re.Match[str]) -> str:
        code = f"{match[1]}_{'hat' if match[2] in ('hat', '^') else 'tilde'}"
        return code if code in names else match[0]

    typed = re.sub(r"(?<!\w)(\w)\s?(~|\^|tilde\b|hat\b)", marked, typed)
    return re.sub(r"(?<![\w])([^\W\d_]+)_(?:\{([^{}]*)\}|([^\W\d_]+))(?!\w)", known, typed)


#: Words whose value is asked for with “the”: what is the learning rate.
_WITH_VALUES = frozenset({"learning rate", "loss", "epoch", "batch", "step", "timestep", "vocabulary", "optimizer"})
#: Slots that are filled by more than a number, so that a question with one of them fits well.
_FILLED_WELL = re.compile(r"\{(?:sampling|condition|place|epochs|follows|stopping)\b")
#: Names of the program that are words of English more often, or have no entries.
_NOT_NAMES = frozenset({"a", "t", "I", "i", "s", "loss"})
#: TypedWords after “after”, “of” and the like that are about texts and are none.
_SUBJECTS = frozenset(word for group in SYNONYMS for word in group)


def _carry(snapshot: Snapshot) -> str | None:
    """Return the gradient that is handed to the timestep before, as it is typed; None for a model without one."""
    program = snapshot.program
    if not program.goes_back or not program.model.page.states:
        return None
    try:
        return in_line(program.writer.name(flow_names(program, program.main_state).handed_on))
    except (KeyError, AssertionError, StopIteration):
        return None
