"""Cells of random equations, plausible and implausible ones."""

from __future__ import annotations

import random


def random_cell(seed: int) -> str:
    """The text of a cell with up to three states, lines that read each other, parts with and without a name, softmaxes inside
    lines, joins both ways, sums and means over rows and units, and parameters wherever they fit. Its output can be no state."""
    return _Writer(random.Random(seed)).text()


class _Writer:
    def __init__(self, draw: random.Random) -> None:
        self._draw, self._parameters, self._labels = draw, list[str](), 0
        self._values = ["h_prev"]

    def text(self) -> str:
        draw = self._draw
        states = ["h", "c", "s"][: 1 + (draw.random() < 0.4) + (draw.random() < 0.15)]
        self._values += [f"{state}_prev" for state in states[1:]]
        lines = []
        for i in range(draw.randint(1, 4)):
            label = draw.choice(["", f"way{i}: "])
            lines.append(f"{label}v{i} = h_prev ⊙ 0.5 + {self._sum(2)}")
            self._values.append(f"v{i}")
        for state in states[1:]:
            lines.append(f"keep{state}: {state} = tanh({state}_prev + {self._sum(2)})")
            self._values.append(state)
        lines.append(f"carry: h = tanh({' + '.join(self._values)} + {self._sum(2)} + {self._weight('x', 'W')})")
        if draw.random() < 0.35:
            self._values.append("h")
            lines.append(f"out: y1 = h + {self._sum(2)}")
        declared = f"parameters {' '.join(self._parameters)}"
        return "\n".join(["reads x", f"state {', '.join(f'{state} : H' for state in states)}", declared, *lines, ""])

    def _weight(self, left: str, letter: str) -> str:
        self._parameters.append(f"{letter}{len(self._parameters)}")
        return f"{left} {self._parameters[-1]}"

    def _vector(self) -> str:
        self._parameters.append(f"b{len(self._parameters)}")
        return self._parameters[-1]

    def _sum(self, depth: int) -> str:
        draw = self._draw
        count = draw.choice([1, 1, 2, 2, 3])
        sign = draw.choice([" + ", " − ", " ⊙ "])
        if count == 1:
            return self._atom(depth)
        if sign == " ⊙ ":
            return sign.join(self._bracket(depth) if draw.random() < 0.5 else draw.choice(self._values) for _ in range(count))
        return sign.join(self._atom(depth) for _ in range(count))

    def _bracket(self, depth: int) -> str:
        inner = self._sum(depth)
        if self._draw.random() < 0.4 and not inner.isidentifier():
            self._labels += 1
            return f"(p{self._labels}: {inner})"
        return f"({inner})"

    def _atom(self, depth: int) -> str:
        draw = self._draw
        if depth <= 0:
            return draw.choice(self._values)
        less = depth - 1
        match draw.choices(range(15), [35, 7, 8, 5, 20, 5, 3, 3, 4, 3, 7, 6, 3, 4, 4])[0]:
            case 0:
                return draw.choice(self._values)
            case 1:
                return self._weight("x", "W")
            case 2:
                return self._weight(self._bracket(less), "U")
            case 3:
                return self._vector()
            case 4:
                return f"{draw.choice(['σ', 'tanh', 'softmax', 'relu', 'clamp', 'tanh', 'σ'])}({self._sum(less)})"
            case 5:
                return f"mean {self._bracket(less)} over {draw.choice(['rows', 'units'])}"
            case 6:
                return f"Σ {self._bracket(less)} over {draw.choice(['rows', 'units'])}"
            case 7:
                return f"{self._bracket(less)}^2"
            case 8:
                return f"{self._bracket(less)} / (2 + σ({self._sum(less)}))"
            case 9:
                return f"(1 − {self._bracket(less)})"
            case 11:
                joined = ["x", draw.choice(self._values), *([self._bracket(less)] if draw.random() < 0.3 else [])]
                draw.shuffle(joined)
                return self._weight(f"[{', '.join(joined)}]", "J")
            case 12:
                inner = f"({draw.choice(self._values)} + {self._vector()})"
                return f"{draw.choice(['Σ', 'mean'])} {inner} over {draw.choice(['rows', 'units'])}"
            case 13:  # read by the backward pass, and not recorded under a name
                return f"{draw.choice(self._values)} ⊙ ({draw.choice(self._values)} {self._matrix()}) ⊙ {self._vector()}"
            case 14:
                if draw.random() < 0.5:
                    return draw.choice(
                        [f"{draw.choice(self._values)} / (3 + {self._vector()})", f"{self._vector()} / (2 + σ({self._sum(less)}))"]
                    )
                return f"softmax({self._vector()} ⊙ {draw.choice(self._values)}) ⊙ σ({self._vector()})"
        return self._bracket(less)

    def _matrix(self) -> str:
        self._parameters.append(f"M{len(self._parameters)}(H H)")
        return self._parameters[-1].partition("(")[0]
