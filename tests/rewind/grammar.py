# ruff: noqa: E501 - the pieces of scripts are listed in rows
"""Random training scripts from a grammar: state that a body carries × containers × optimizers × schedules × loaders × places."""

import random
import textwrap

HEAD = """
import collections, copy, dataclasses, random, types
import numpy as np
import torch
from torch import nn
from torch.nn import functional as f

class Net(nn.Module):
    def __init__(self, kind, layers, dropout):
        super().__init__()
        self.rnn = getattr(nn, kind)(3, 5, layers, batch_first=True, dropout=dropout)
        self.norm = nn.BatchNorm1d(5)
        self.head = nn.Linear(5, 1)
        self.calls = 0
    def forward(self, x, h=None):
        self.calls += 1
        out, h = self.rnn(x, h)
        return self.head(self.norm(out[:, -1])), h

def data(count=16):
    generator = torch.Generator().manual_seed(5)
    inputs = [torch.randn(4, 5, 3, generator=generator) for _ in range(count)]
    return [(x, x.sum((1, 2))[:, None] * 0.1) for x in inputs]

def detached(h):
    return tuple(each.detach() for each in h) if isinstance(h, tuple) else h.detach()
"""

#: A state that the body carries: what is before the loop, what the body does with it, a number that depends on it.
CARRIED = {
    "local": ("n = 0", "n += 1", "n"),
    "list": ("log = [0]", "log.append(log[-1] + i)", "log[-1] + len(log)"),
    "dict": ("seen = {}", "seen[i % 5] = seen.get(i % 5, 0) + i", "sum(seen.values())"),
    "nested": ("d = {'a': [{'n': 0}]}", "d['a'][0]['n'] += 1; d['a'].append(i)", "d['a'][0]['n'] + len(d['a'])"),
    "counter": ("c = collections.Counter()", "c[i % 3] += 2", "c[0] + c.total()"),
    "ordered": (
        "od = collections.OrderedDict(a=1, b=2)",
        "od.move_to_end('a' if i % 2 else 'b'); od[f'k{i % 4}'] = i",
        "list(od.values())[-1] + len(od)",
    ),
    "deque": ("q = collections.deque([1, 2], maxlen=4)", "q.append(i); q.rotate(1)", "q[0] + len(q)"),
    "set": ("s = set()", "s.add(i % 7); s.discard(i % 3)", "sum(s)"),
    "default": ("dd = collections.defaultdict(list)", "dd[i % 2].append(i)", "len(dd[i % 2]) + len(dd)"),
    "bytes": ("b = bytearray(4)", "b[i % 4] += 1", "sum(b)"),
    "array": ("a = np.zeros(6)", "a[i % 6] += 0.5; a *= 1.01", "float(a.sum())"),
    "objects": ("ob = np.array([None, 1], dtype=object)", "ob[1] = (ob[1] or 0) + i", "ob[1]"),
    "tensor": ("t = torch.zeros(3)", "t.add_(0.1); t[i % 3] *= 2", "float(t.sum())"),
    "data": ("u = torch.ones(2)", "u.data = u.data * 1.1", "float(u.sum())"),
    "numpy view": ("w = torch.zeros(4); wn = w.numpy()", "wn[i % 4] += 1", "float(w.sum())"),
    "namespace": ("ns = types.SimpleNamespace(n=0)", "ns.n += 1; ns.last = i", "ns.n + getattr(ns, 'last', 0)"),
    "slots": (
        ("class Slots:\n    __slots__ = ('n', '__m')\n    def __init__(self): self.n, self.__m = 0, 1\n"
        "    def up(self): self.n += 1; self.__m += self.n; return self.__m\nsl = Slots()"),
        "sl.up()",
        "sl.n",
    ),
    "class attribute": (
        "class Meter:\n    total = 0\n    items = []\n    @classmethod\n    def add(cls, v): cls.total += v; cls.items.append(v)",
        "Meter.add(i)",
        "Meter.total + len(Meter.items)",
    ),
    "property": (
        "class Box:\n    def __init__(self): self._v = 1\n    @property\n    def v(self): self._v += 1; return self._v\nbox = Box()",
        "box.v",
        "box._v",
    ),
    "dataclass": (
        "@dataclasses.dataclass\nclass Stat:\n    n: int = 0\n    values: list = dataclasses.field(default_factory=list)\nst = Stat()",
        "st.n += 2; st.values.append(st.n)",
        "st.n + len(st.values)",
    ),
    "default argument": ("def bump(v, memory=[0]): memory[0] += v; return memory[0]", "bump(i)", "bump(0)"),
    "function attribute": ("def tick(): tick.n = getattr(tick, 'n', 0) + 1; return tick.n", "tick()", "tick.n"),
    "closure": (
        "def make():\n    n = 0\n    def up():\n        nonlocal n\n        n += 1\n        return n\n    return up\nup = make()",
        "k = up()",
        "k",
    ),
    "bound append": ("history = []; append = history.append", "append(i * 2)", "sum(history)"),
    "random": ("rng = random.Random(3)", "r = rng.random()", "r"),
    "numpy generator": ("gen = np.random.default_rng(2)", "g = gen.random()", "g"),
    "numpy spawn": ("sp = np.random.default_rng(2)", "g2 = sp.spawn(1)[0].random()", "g2"),
    "seed sequence": ("sq_ = np.random.SeedSequence(3)", "s2 = sq_.spawn(2)[1].generate_state(1)[0] % 97", "float(s2)"),
    "torch generator": ("tg = torch.Generator().manual_seed(4)", "v = torch.rand((), generator=tg).item()", "v"),
    "global random": ("", "z = random.random() + np.random.rand() + torch.rand(()).item()", "z"),
    "hook": (
        "outs = []; model.head.register_forward_hook(lambda m, a, o: outs.append(float(o.detach().mean())))",
        "len(outs)",
        "len(outs) + (outs[-1] if outs else 0)",
    ),
    "subclass of list": (
        "class Buffer(list):\n    def push(self, v): self.append(v); self.last = v\nbuf = Buffer()",
        "buf.push(i)",
        "len(buf) + buf.last",
    ),
    "average": ("mean = None", "mean = i if mean is None else 0.9 * mean + 0.1 * i", "mean"),
    "best": ("best, bad = 9e9, 0", "best, bad = (float(i % 5), 0) if i % 5 < best else (best, bad + 1)", "best + bad"),
    "file": ("log_file = open(path + '.log', 'a')", "log_file.write(f'{i}\\n')", "0"),
    "iterator kept": ("it = kept(iter(range(1000)))", "m = next(it)", "m"),
    "partial": ("import functools; cell_ = [0]; addc = functools.partial(lambda c, v: c.__setitem__(0, c[0] + v), cell_)", "addc(i)", "cell_[0]"),
    "lru cache": ("import functools\n@functools.lru_cache\ndef sq(v): return v * v", "sq(i)", "sq(i) % 7"),
    "eval in between": ("held = data(2)", "model.eval()\nwith torch.no_grad():\n    e = sum(f.mse_loss(model(a)[0], b).item() for a, b in held)\nmodel.train()", "e % 3"),
    "loader in the body": (
        "inner_loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.arange(6.)), 2, shuffle=True)",
        "y0 = [float(each[0][0]) for each in inner_loader][-1]",
        "y0",
    ),
    "nested function in the body": ("acc = 0", "def inner(v):\n    nonlocal_free = v + acc\n    return nonlocal_free\nacc = inner(i) % 11", "acc"),
    "try": ("errors = 0", "try:\n    1 / (i % 3)\nexcept ZeroDivisionError as error:\n    errors += 1", "errors"),
    "inner loop": ("m2 = 0", "for k2 in range(2):\n    if k2: continue\n    m2 += i", "m2"),
    "comprehension": ("ws = [1, 2]", "ws = [w + i for w in ws if w < 1000]", "sum(ws) % 13"),
    "walrus": ("wn2 = 0", "if (half := i // 2) % 2: wn2 += half", "wn2"),
    "deleted": ("tmp = 1", "del tmp\ntmp = i", "tmp"),
    "named tuple": ("Pair = collections.namedtuple('Pair', 'a b'); pair = Pair(0, 1)", "pair = pair._replace(a=pair.a + i)", "pair.a"),
    "metaclass": (
        "class Kind(type):\n    made = []\nclass Made(metaclass=Kind):\n    def __init__(self): Kind.made.append(1)",
        "Made()",
        "len(Kind.made)",
    ),
    "rows of a file": ("import csv; csv_file = open(path + '.csv', 'w'); rows = csv.writer(csv_file)", "rows.writerow([i])", "0"),
    "hook of a weight": (
        "handles = [model.head.weight.register_hook(lambda g: g * 1.1)]",
        "if i == 9 and handles: handles.pop().remove()",
        "len(handles)",
    ),
    "view of the batch": ("m3 = 0.0", "for part in x.split(2): m3 = float(part.sum())", "m3"),
    "weak values": (
        "import weakref\nclass Item: pass\nitem = Item(); table = weakref.WeakValueDictionary(a=item)",
        "table[f'k{i % 3}'] = item; table.pop('k0', None)",
        "len(table)",
    ),
    "match": ("mt = 0", "match i % 3:\n    case 0: mt += 1\n    case other: mt += other", "mt"),
}  # fmt: skip

OPTIMIZERS = {
    "adam": "torch.optim.Adam(model.parameters(), 1e-2)",
    "adam foreach": "torch.optim.Adam(model.parameters(), 1e-2, foreach=True, amsgrad=True)",
    "adam capturable lr": "torch.optim.AdamW(model.parameters(), lr=torch.tensor(1e-2), weight_decay=0.1, foreach=False)",
    "sgd": "torch.optim.SGD(model.parameters(), 1e-2)",
    "momentum": "torch.optim.SGD(model.parameters(), 1e-2, momentum=0.9, nesterov=True, weight_decay=0.01)",
    "rmsprop": "torch.optim.RMSprop(model.parameters(), 1e-2, momentum=0.5, centered=True)",
    "adagrad": "torch.optim.Adagrad(model.parameters(), 1e-2)",
    "nadam": "torch.optim.NAdam(model.parameters(), 1e-2)",
    "groups": "torch.optim.AdamW([{'params': model.rnn.parameters(), 'lr': 1e-2}, {'params': [*model.norm.parameters(), "
    "*model.head.parameters()], 'lr': 3e-3, 'weight_decay': 0.0}])",
    "lbfgs": "torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=2)",
}
SCHEDULES = {
    "none": ("None", ""),
    "step": ("torch.optim.lr_scheduler.StepLR(optimizer, 4, 0.5)", "schedule.step()"),
    "one cycle": ("torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=100, cycle_momentum=False)", "schedule.step()"),
    "lambda": ("torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 0.9**k)", "schedule.step()"),
    "plateau": ("torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)", "schedule.step(loss.item())"),
}
LOADERS = {
    "list": ("WRAP(data())", "x, y", ""),
    "enumerate inside": ("WRAP(enumerate(data()))", "_, (x, y)", ""),
    "enumerate outside": ("enumerate(WRAP(data()), 1)", "number, (x, y)", ""),
    "zip": ("WRAP(zip(data(), range(100)))", "(x, y), number", ""),
    "shuffled": ("WRAP(torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*map(torch.cat, zip(*data()))), 4, shuffle=True))",
                 "x, y", ""),
    "generator": ("WRAP((x + 0.1 * torch.randn_like(x), y) for x, y in data())", "x, y", ""),
    "drawn": ("WRAP(range(16))", "step", "x = torch.randn(4, 5, 3); y = x.sum((1, 2))[:, None] * 0.1"),
    "dicts": ("WRAP({'x': x, 'y': y} for x, y in data())", "batch", "x, y = batch.pop('x'), batch['y']"),
    "changed": ("WRAP(data())", "x, y", "x.mul_(1.1)"),
    "objects": ("WRAP(types.SimpleNamespace(x=x, y=y) for x, y in data())", "batch", "batch.x = batch.x * 1.1; x, y = batch.x, batch.y"),
}  # fmt: skip
FORMS = ("plain", "carried h", "accumulate", "not to none", "zero at the end", "autocast", "average model", "skips")
PLACES = ("function", "module", "method", "epochs", "epoch function", "nonlocal")


def script(seed):
    """Return the source of a script that calls `WRAP` on its loader, and sets `losses`, `rest` and `model`; and what it has."""
    draw = random.Random(seed)
    carried = draw.sample(sorted(CARRIED), draw.randint(2, 5))
    optimizer, schedule, loader = (draw.choice(sorted(each)) for each in (OPTIMIZERS, SCHEDULES, LOADERS))
    form, place = draw.choice(FORMS), draw.choice(PLACES)
    kind, layers, dropout = draw.choice(("GRU", "LSTM", "RNN")), draw.randint(1, 2), draw.choice((0.0, 0.3))
    if optimizer == "lbfgs":
        form = draw.choice(("plain", "carried h"))
        schedule = "none"
    made, every = SCHEDULES[schedule]
    before = [f"model = Net({kind!r}, {layers}, {dropout if layers > 1 else 0.0})", f"optimizer = {OPTIMIZERS[optimizer]}",
              f"schedule = {made}", "losses, h, i, total = [], None, 0, 0.0"]  # fmt: skip
    if form == "average model":
        before += ["average = copy.deepcopy(model)"]
    before += [CARRIED[name][0] for name in carried]
    factor = "1 + 0.01 * (" + " + ".join(f"({CARRIED[name][2]}) % 5" for name in carried) + ")"
    source, target, first = LOADERS[loader]
    body = ["i += 1", first, *(CARRIED[name][1] for name in carried)]
    h = "h" if form == "carried h" else "None"
    loss = f"f.mse_loss(p, y) * ({factor})"
    if optimizer == "lbfgs":
        body += ["def closure():", "    optimizer.zero_grad()", f"    loss = f.mse_loss(model(x, {h})[0], y) * ({factor})",
                 "    loss.backward()", "    return loss", "loss = optimizer.step(closure)"]  # fmt: skip
    else:
        run = [f"p, h2 = model(x, {h})", f"loss = {loss}"]
        if form == "autocast":
            run = [
                "with torch.autocast('cpu', dtype=torch.bfloat16):",
                f"    p, h2 = model(x, {h})",
                "p = p.float()",
                f"loss = {loss}",
            ]
        if form == "average model":
            run += ["loss = loss + 0.1 * f.mse_loss(average(x)[0].detach(), p)"]
        if form == "skips":
            body += ["if i % 4 == 3:", "    continue"]
        clear = f"optimizer.zero_grad({'set_to_none=False' if form == 'not to none' else ''})"
        step = ["optimizer.step()"]
        if draw.random() < 0.5:
            step.insert(0, "nn.utils.clip_grad_norm_(model.parameters(), 1.0)")
        if form == "accumulate":
            body += [*run, "loss.backward()", "if i % 3 == 0:", *("    " + line for line in step), "    optimizer.zero_grad()"]
        elif form == "zero at the end":
            body += [*run, "loss.backward()", *step, clear]
        else:
            body += [*run, clear, "loss.backward()", *step]
    if form == "carried h":
        body += ["h = detached(h2)"] if optimizer != "lbfgs" else ["h = detached(model(x, h)[1])"]
    if form == "average model":
        body += [
            "for slow, fast in zip(average.parameters(), model.parameters()):",
            "    slow.data.mul_(0.9).add_(fast.data, alpha=0.1)",
        ]
    body += [every, "total += loss.item()", "losses.append(loss.item())"]
    rest = "[" + ", ".join(["i", "total", *(CARRIED[name][2] for name in carried)]) + "]"
    return "\n".join((HEAD, placed(place, before, source, target, body, rest))), (
        carried, optimizer, schedule, loader, form, place, kind,
    )  # fmt: skip


def placed(place, before, source, target, body, rest):
    """Return the loop at a place in a script."""

    def indented(lines, by):
        return textwrap.indent("\n".join(lines), "    " * by)

    loop = f"for {target} in {source}:"
    if place == "module":
        return "\n".join([*before, loop, indented(body, 1), f"rest = {rest}"])
    if place == "epochs":
        inner = [
            *before,
            "for epoch in range(2):",
            f"    {loop}",
            indented(body, 2),
            f"    losses.append({rest}[0])",
            f"rest = {rest}",
        ]
        return "\n".join(["def main():", indented(inner, 1), "    return losses, rest, model", "losses, rest, model = main()"])
    if place == "nonlocal":
        inner = [
            *before,
            "def peek():",
            "    return i, total, h",
            loop,
            indented(body, 1),
            "    peek()",
            f"rest = [*{rest}, peek()[0]]",
        ]
        return "\n".join(["def main():", indented(inner, 1), "    return losses, rest, model", "losses, rest, model = main()"])
    if place == "epoch function":
        inner = [*before, "def epoch():", "    nonlocal_names = 0", f"    {loop}", indented(["nonlocal_names += 1", *body], 2),
                 f"    return {rest}", "rest = [*epoch(), *epoch()]"]  # fmt: skip
        names = "h, i, total"
        text = "\n".join(["def main():", indented(inner, 1), "    return losses, rest, model", "losses, rest, model = main()"])
        more = sorted(
            name for name in _assigned(body) - {"loss", "p", "h2", "x", "y"} if any(_binds(line, name) for line in before)
        )
        declared = ", ".join(dict.fromkeys([*names.split(", "), *more]))
        return text.replace("    nonlocal_names = 0", f"    nonlocal {declared}\n        nonlocal_names = 0", 1)
    if place == "method":
        inner = [*before, loop, indented(body, 1), "self.__rest = " + rest, "return losses, self.__rest, model"]
        return "\n".join(["class Trainer:", "    def __init__(self): self.__rest = None", "    def fit(self):", indented(inner, 2),
                          "losses, rest, model = Trainer().fit()"])  # fmt: skip
    inner = [*before, loop, indented(body, 1), f"rest = {rest}"]
    return "\n".join(["def main():", indented(inner, 1), "    return losses, rest, model", "losses, rest, model = main()"])


def _assigned(lines):
    import ast

    return {
        node.id
        for node in ast.walk(ast.parse("while True:\n" + textwrap.indent("\n".join(lines), "    ")))
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    }


def _binds(line, name):
    import ast

    return any(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store) for node in ast.walk(ast.parse(line))
    )
