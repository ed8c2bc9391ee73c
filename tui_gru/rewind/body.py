"""The body of a script's `for` loop as a function of its batch, compiled from the source, in the file and lines where it is."""

from __future__ import annotations

import ast
import dis
import gc
import itertools
import linecache
import types
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from tui_gru.errors import printable
from tui_gru.rewind.states import RewindError

_FLAGS = 0x1FE0000  # of `from __future__ import …`, in the flags of a code object
_ITEM, _END, _NAMES, _QUIET = "_steps_item", "_steps_end", "_steps_names", "_steps_quiet"
_SEE_ALL = {"locals", "globals", "vars", "eval", "exec", "dir"}  # with which a body can read names that it does not mention
_REPORTS = {
    "set_postfix", "set_postfix_str", "set_description", "set_description_str", "add_scalar", "add_scalars", "add_histogram",
    "add_text", "add_image", "add_figure", "log_metrics", "log_metric", "log_dict",
}  # fmt: skip
_REPORTERS = {"wandb", "mlflow", "neptune", "comet_ml", "clearml", "swanlab", "aim"}
_CLOCKS = {
    "time", "time_ns", "perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns", "process_time", "process_time_ns", "now",
    "utcnow",
}  # fmt: skip
CUT_CALL, CUT_ALL = 1, 2  # what is left out of a statement: the call, with its arguments computed; all of it


class Body:
    """The body of the loop in whose `for` a frame stands, as code that can be called with the names that the body reads.

    `reads` are the names that it mentions, `unread` those that a step surely writes before it reads them.
    """

    def __init__(self, frame: types.FrameType) -> None:
        """Find the loop. Raises `RewindError`, which says why its body cannot be compiled."""
        code = frame.f_code
        self.code, self.globals = code, frame.f_globals
        self.is_module = code.co_name == "<module>" or (code.co_flags & 0x2) == 0
        self.cuts: dict[tuple[int, int], int] = {}
        self.lines: Mapping[int, str] = {}
        self._compiled: dict[Any, types.CodeType] = {}
        self.file = code.co_filename
        text = "".join(linecache.getlines(self.file, frame.f_globals))
        if not text:
            raise RewindError(
                f"the source of the loop, {self.file}, cannot be read; give body=, a function of the batch", option="body"
            )
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            raise RewindError(f"{self.file} was changed since it was started, and cannot be read now; start it again") from None
        self.node, self._parents = self._loop(tree, frame)
        self.text = text
        self._check_unchanged(tree)
        if self.is_module and any(isinstance(above, ast.ClassDef) for above in self._above(self.node)):
            raise RewindError("the loop is in the body of a class; put it into a function")
        self.start = self._enumerate_start(frame)
        self.class_name = next((above.name for above in self._above(self.node) if isinstance(above, ast.ClassDef)), None)
        for inner in _own_scope(self.node.body):
            if isinstance(inner, (ast.Yield, ast.YieldFrom, ast.Await, ast.AsyncFor, ast.AsyncWith)):
                raise RewindError(f"line {inner.lineno}: the body has yield or await; put the loop into a function without them")
        nodes = [node for part in (self.node.target, *self.node.body) for node in ast.walk(part)]
        self.reads = frozenset({node.id for node in nodes if isinstance(node, ast.Name)})
        self.attributes = frozenset({node.attr for node in nodes if isinstance(node, ast.Attribute)}) | self.reads
        self.unread = frozenset() if self.reads & _SEE_ALL else self._written_first()
        if self.reads & _SEE_ALL:
            self.reads = self.reads | set(frame.f_locals)

    @property
    def line_of_clock(self) -> int | None:
        """The first line of the body that reads the clock."""
        calls = (node for statement in self.node.body for node in ast.walk(statement) if isinstance(node, ast.Call))
        names = ((node.lineno, getattr(node.func, "attr", getattr(node.func, "id", ""))) for node in calls)
        return min((line for line, name in names if name in _CLOCKS), default=None)

    def _loop(self, tree: ast.Module, frame: types.FrameType) -> tuple[ast.For, dict[ast.AST, ast.AST]]:
        parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
        position = list(self.code.co_positions())[frame.f_lasti // 2]
        at = position[0], position[2]
        for node in ast.walk(tree):
            # Python 3.11 and 3.12 have the place of the iterable or of the loop, later ones that of the iterable.
            if isinstance(node, ast.For) and at in ((node.lineno, node.col_offset), (node.iter.lineno, node.iter.col_offset)):
                return node, parents
        raise RewindError(
            f"{self.file}:{frame.f_lineno} is no for … in tui_gru.steps(…), or was changed since it was started; write the loop so"
        )

    def _above(self, node: ast.AST) -> Iterator[ast.AST]:
        above = self._parents.get(node)
        while above is not None:
            yield above
            above = self._parents.get(above)

    def _check_unchanged(self, tree: ast.Module) -> None:
        """Raises `RewindError` if the instructions of the loop are not those that its source gives now."""
        compiled = compile(tree, self.file, "exec", flags=self.code.co_flags & _FLAGS, dont_inherit=True)
        first, last = self.node.body[0].lineno, self.node.end_lineno or self.node.lineno
        asserts = {
            line
            for node in ast.walk(self.node)
            if isinstance(node, ast.Assert)  # which a test runner compiles in its own way
            for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
        }
        running = _instructions(self.code, first, last, asserts)
        candidates = [code for code in _codes(compiled) if code.co_qualname == self.code.co_qualname]
        if not any(_instructions(code, first, last, asserts) == running for code in candidates):
            raise RewindError(f"{self.file} was changed since it was started; start it again")

    def _enumerate_start(self, frame: types.FrameType) -> int | None:
        """Return what the first number of an `enumerate` around `steps` is; None without one."""
        call: ast.expr = self.node.iter
        start: int | None = None
        while isinstance(call, ast.Call) and call.args:
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            if name == "steps":
                break
            if name == "enumerate":
                argument = call.args[1] if len(call.args) > 1 else next((k.value for k in call.keywords if k.arg == "start"), None)
                if start is not None:
                    raise RewindError(f"line {call.lineno}: enumerate(enumerate(steps(…))): write steps(enumerate(…))")
                start = 0
                if argument is not None:
                    try:
                        start = int(ast.literal_eval(argument))
                    except (ValueError, TypeError):
                        raise RewindError(
                            f"line {call.lineno}: enumerate(steps(…), {printable(ast.unparse(argument))}): write "
                            f"steps(enumerate(…)), whose items are kept"
                        ) from None
            elif name not in ("tqdm", "trange", "auto", "track", "progress_bar", "tqdm_notebook"):
                if "steps" in ast.unparse(call):
                    raise RewindError(f"line {call.lineno}: {name}(steps(…)): write steps({name}(…)), whose items are kept")
                break
            call = call.args[0]
        return start

    def _written_first(self) -> frozenset[str]:
        """Return the names that a step writes, on every way through the body, before it reads them."""
        written, read = _names_in(self.node.target, ast.Store), set[str]()
        for statement in self.node.body:
            stores = set[str]()
            match statement:
                case ast.Assign(targets=targets, value=value):
                    read |= _all_names(value) - written
                    for target in targets:
                        read |= _names_in(target, ast.Load) - written
                        stores |= _names_in(target, ast.Store)
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    read |= _all_names(value) - written
                    stores = {name}
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    read |= _all_names(statement) - written
                    stores = {name}
                case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                    stores = {(alias.asname or alias.name).partition(".")[0] for alias in aliases}
                case ast.Expr(value=value):
                    read |= _all_names(value) - written
                case _:
                    read |= _all_names(statement) - written
            written |= stores - read
        return frozenset(written)

    # Names

    def cells(self, frame: types.FrameType) -> dict[str, types.CellType]:
        """Return the variables of a frame that live functions share with it. Raises `RewindError` if they cannot be told.

        A frame does not show its cells. A variable that no function has yet is one of the frame alone.
        """
        shared = (*self.code.co_cellvars, *self.code.co_freevars)
        names = [name for name in shared if name in self.reads]
        if "__class__" in self.code.co_freevars:
            names.append("__class__")
        if not names:
            return {}
        inner = {id(code) for code in _codes(self.code) if code is not self.code}
        values = frame.f_locals
        matching: dict[str, dict[int, types.CellType]] = {name: {} for name in names}
        for function in gc.get_objects():
            if type(function) is not types.FunctionType or not function.__closure__:
                continue
            code = function.__code__
            if code is self.code or id(code) in inner:
                for name, cell in zip(code.co_freevars, function.__closure__, strict=True):
                    if name in matching and (code is not self.code or name in self.code.co_freevars) and _holds(cell, name, values):
                        matching[name][id(cell)] = cell
        for name, cells in matching.items():
            if len(cells) > 1 and not _is_same_function(self.code, name, cells):
                raise RewindError(
                    f"the variable {name} is shared with functions of several calls of {self.code.co_qualname}; pass it on"
                )
        return {name: next(iter(cells.values())) for name, cells in matching.items() if cells}

    def live(self, names: Mapping[str, Any], also: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Return those of the local names that a step can read before it writes them."""
        read_first = (self.reads - self.unread) | (also & self.reads)
        return {name: value for name, value in names.items() if name in read_first}

    # Running

    def run(self, names: dict[str, Any], cells: Mapping[str, types.CellType], item: Any, number: int) -> bool:
        """Run one step on these local names, which become those at its end. Returns True if it went to its end, without `break`."""
        if self.start is not None:
            item = self.start + number, item
        ended: list[int] = []
        if self.is_module:
            names_of_module = self.globals
            for name in self.reads - self.unread - names.keys():
                names_of_module.pop(name, None)
            names_of_module.update(names)
            extra = {_ITEM: item, _END: ended.append, _QUIET: _quiet}
            names_of_module.update(extra)
            try:
                exec(self._code((), ()), names_of_module)
            finally:
                for name in extra:
                    names_of_module.pop(name, None)
                names.clear()
                names.update({name: names_of_module[name] for name in self.reads if name in names_of_module})
            return bool(ended)
        # `super()` looks at the first argument.
        first = self.code.co_varnames[:1] if self.code.co_argcount else ()
        for name, cell in cells.items():
            if name in names:
                cell.cell_contents = names[name]
            elif name in self.reads - self.unread and _is_full(cell):
                del cell.cell_contents
        arguments = sorted(
            (name for name in names if name.isidentifier() and name not in cells), key=lambda name: (name not in first, name)
        )
        code = self._code(tuple(arguments), tuple(sorted(cells)))
        function = types.FunctionType(code, self.globals, closure=tuple(cells[name] for name in code.co_freevars) or None)
        new: dict[str, Any] = {}
        values = {name: names[name] for name in arguments}
        try:
            function(**values, **{_NAMES: new, _ITEM: item, _END: ended.append, _QUIET: _quiet})
        finally:
            names.clear()
            names.update({name: value for name, value in new.items() if not name.startswith("_steps_")})
        return bool(ended)

    def _code(self, names: tuple[str, ...], cells: tuple[str, ...]) -> types.CodeType:
        key = names, cells, tuple(self.cuts.items()), tuple(sorted(self.lines.items()))
        if key not in self._compiled:
            self._compiled[key] = self._compile(names, cells)
        return self._compiled[key]

    def _compile(self, names: tuple[str, ...], cells: tuple[str, ...]) -> types.CodeType:
        loop = ast.parse(f"for _steps_once in (0,): pass\nelse: {_END}(0)").body[0]
        assert isinstance(loop, ast.For)
        body = _Changed(self.cuts, self.lines).visit(ast.Module([deepcopy(statement) for statement in self.node.body], []))
        loop.body = body.body or [ast.Pass()]
        bind: ast.stmt = ast.Assign([deepcopy(self.node.target)], ast.Name(_ITEM, ast.Load()))
        flags = self.code.co_flags & _FLAGS
        if self.is_module:
            tree = ast.Module([bind, loop], [])
            _place(tree, self.node.lineno)
            code: types.CodeType = compile(tree, self.file, "exec", flags=flags, dont_inherit=True)
            return code
        local = {*self.code.co_varnames, *self.code.co_cellvars, *self.code.co_freevars}
        new_names = {name for line in self.lines.values() for name in _stored(ast.parse(line).body)} - local
        stored = _stored([*self.node.body, ast.Assign([self.node.target], ast.Constant(0))]) - local - set(names) - new_names
        end = ast.parse(f"try: pass\nfinally: {_NAMES}.update(locals())").body[0]
        assert isinstance(end, ast.Try)
        end.body = [bind, loop]
        head: list[ast.stmt] = [ast.Global(sorted(stored))] if stored else []
        if shared := sorted(set(cells) - {"__class__"}):
            head.append(ast.Nonlocal(shared))
        if "__class__" in cells:
            head.append(ast.Expr(ast.Name("__class__", ast.Load())))
        name = self.code.co_name if self.code.co_name.isidentifier() else "body"
        function = ast.parse(f"def {name}({', '.join([*names, _NAMES, _ITEM, _END, _QUIET])}): pass").body[0]
        assert isinstance(function, ast.FunctionDef)
        function.body = [*head, end]
        outer = ast.parse("def outer():\n " + ("\n ".join(f"{cell} = None" for cell in cells) or "pass")).body[0]
        assert isinstance(outer, ast.FunctionDef)
        outer.body.append(function)
        module: ast.stmt = outer
        if self.class_name is not None:
            module = ast.parse(f"class {self.class_name}: pass").body[0]
            assert isinstance(module, ast.ClassDef)
            module.body = [outer]
        tree = ast.Module([module], [])
        _place(tree, self.node.lineno)
        code = compile(tree, self.file, "exec", flags=flags, dont_inherit=True)
        inner: types.CodeType = next(inner for inner in _codes(code) if _NAMES in inner.co_varnames)
        return inner

    # Statements

    def statement_of(self, error: BaseException) -> ast.stmt | None:
        """Return the innermost statement of the body in which an error was raised."""
        trace, place = error.__traceback__, None
        last = self.node.end_lineno or self.node.lineno
        while trace is not None:
            code = trace.tb_frame.f_code
            if code.co_filename == self.file and self.node.lineno <= trace.tb_lineno <= last and place is None:
                place = list(code.co_positions())[trace.tb_lasti // 2]
            trace = trace.tb_next
        if place is None or place[0] is None or place[2] is None:
            return None
        begin, end = (place[0], place[2]), (place[1] or place[0], place[3] or 0)
        around = [
            node
            for statement in self.node.body
            for node in ast.walk(statement)
            if isinstance(node, ast.stmt)
            and (node.lineno, node.col_offset) <= begin
            and end <= (node.end_lineno or node.lineno, node.end_col_offset or 0)
        ]
        return max(around, key=lambda node: (node.lineno, node.col_offset), default=None)

    def check_lines(self, lines: Mapping[int, str]) -> None:
        """Raises `RewindError` if the statements at these lines cannot be replaced by the texts."""
        statements = {node.lineno: node for top in self.node.body for node in ast.walk(top) if isinstance(node, ast.stmt)}
        for line, text in lines.items():
            statement = statements.get(line)
            if statement is None:
                first, last = self.node.body[0].lineno, self.node.end_lineno
                raise RewindError(
                    f"line {line}: no statement of the body begins there; it has lines {first} to {last}", option="lines"
                )
            if hasattr(statement, "body"):
                raise RewindError(f"line {line} is the head of a block; change a line within it", option="lines")
            try:
                parsed = ast.parse(text.strip())
            except (SyntaxError, ValueError) as error:
                reason = getattr(error, "msg", None) or str(error)
                raise RewindError(f"line {line}: {printable(text.strip(), 80)!r} is no Python: {reason}", option="lines") from None
            for node in ast.walk(parsed):
                if isinstance(node, (ast.Yield, ast.YieldFrom, ast.Await, ast.Global, ast.Nonlocal, ast.Return)):
                    raise RewindError(
                        f"line {line}: a changed line cannot have return, yield, await, global or nonlocal", option="lines"
                    )

    def lines_of_file_now(self) -> dict[int, str] | None:
        """Return the lines of the body that are others in the file now, by their number; None if it has other statements there."""
        try:
            with open(self.file, encoding="utf-8") as file:
                text = file.read()
            tree = ast.parse(text)
        except (OSError, SyntaxError, ValueError):
            return None
        loops = [node for node in ast.walk(tree) if isinstance(node, ast.For) and node.lineno == self.node.lineno]
        return None if not loops else _differing(self.node.body, loops[0].body)


def _differing(old: list[ast.stmt], new: list[ast.stmt]) -> dict[int, str] | None:
    if len(old) != len(new):
        return None
    changes: dict[int, str] = {}
    for a, b in zip(old, new, strict=True):
        if ast.dump(a) == ast.dump(b):
            continue
        if hasattr(a, "body") or hasattr(b, "body"):
            if type(a) is not type(b) or not isinstance(a, (ast.If, ast.For, ast.While, ast.With)):
                return None
            inner = _differing(a.body, b.body)  # type: ignore[attr-defined]
            if inner is None:
                return None
            changes |= inner
        else:
            changes[a.lineno] = ast.unparse(b)
    return changes


class _Changed(ast.NodeTransformer):
    """Leaves statements out, replaces lines, and makes `global` and `nonlocal` of the body's own level pass."""

    def __init__(self, cuts: Mapping[tuple[int, int], int], lines: Mapping[int, str]) -> None:
        self._cuts, self._lines, self._depth = cuts, lines, 0
        self._changed = set[int]()  # the lines that are replaced already

    def generic_visit(self, node: ast.AST) -> Any:
        is_scope = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef))
        self._depth += is_scope
        super().generic_visit(node)
        self._depth -= is_scope
        if not isinstance(node, ast.stmt):
            return node
        if node.lineno in self._lines and not hasattr(node, "body"):
            if node.lineno in self._changed:  # a later statement of the same line, which is replaced as a whole
                return ast.copy_location(ast.Pass(), node)
            self._changed.add(node.lineno)
            new = ast.parse(self._lines[node.lineno].strip()).body
            for statement in new:
                for inner in ast.walk(statement):
                    if hasattr(inner, "lineno"):
                        inner.lineno = inner.end_lineno = node.lineno  # type: ignore[attr-defined]
            return new
        cut = self._cuts.get((node.lineno, node.col_offset), 0)
        if cut == CUT_ALL or (isinstance(node, (ast.Global, ast.Nonlocal)) and not self._depth):
            return ast.copy_location(ast.Pass(), node)
        if isinstance(node, ast.Expr) and isinstance(call := node.value, ast.Call) and (cut == CUT_CALL or _only_reports(call)):
            call.func = ast.copy_location(ast.Name(_QUIET, ast.Load()), call.func) if not self._depth else _quiet_lambda(call.func)
        return node


def _quiet_lambda(place: ast.expr) -> ast.expr:
    function = ast.parse("lambda *arguments, **named: None", mode="eval").body
    return ast.fix_missing_locations(ast.copy_location(function, place))


def _only_reports(call: ast.Call) -> bool:
    """Return True for a call that only shows numbers somewhere: wandb.log(…), bar.set_postfix(…)."""
    first: ast.expr = call.func
    while isinstance(first, ast.Attribute):
        first = first.value
    name = getattr(call.func, "attr", "")
    return name in _REPORTS or (isinstance(first, ast.Name) and first.id in _REPORTERS)


def _quiet(*arguments: Any, **named: Any) -> None:
    """Do nothing with what a statement would have written."""


def _place(tree: ast.Module, line: int) -> None:
    """Give the nodes that were added the line of the loop."""
    for node in ast.walk(tree):
        if not isinstance(node, (ast.expr, ast.stmt, ast.arg, ast.keyword, ast.alias, ast.ExceptHandler)):
            continue
        if getattr(node, "end_lineno", None) is None or node.lineno < line:
            node.lineno = node.end_lineno = line
            node.col_offset, node.end_col_offset = 0, 0
    ast.fix_missing_locations(tree)


def _own_scope(statements: list[ast.stmt]) -> Iterator[ast.AST]:
    """Yield the nodes of statements without those in functions and classes that they define."""
    stack: list[ast.AST] = list(statements)
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            stack += list(ast.iter_child_nodes(node))


def _stored(statements: list[ast.stmt]) -> set[str]:
    names = set[str]()
    for node in _own_scope(statements):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names |= {(alias.asname or alias.name).partition(".")[0] for alias in aliases}
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names.add(name)
    return names


def _all_names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _names_in(node: ast.AST, context: type[ast.expr_context]) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, context)}


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    yield from itertools.chain.from_iterable(_codes(const) for const in code.co_consts if isinstance(const, types.CodeType))


def _is_full(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _holds(cell: types.CellType, name: str, values: Mapping[str, Any]) -> bool:
    """Return True if a cell has what a frame has under a name."""
    return values[name] is cell.cell_contents if name in values and _is_full(cell) else name not in values and not _is_full(cell)


def _is_same_function(code: types.CodeType, name: str, cells: Mapping[int, types.CellType]) -> bool:
    """Return True if several cells of `__class__` are of one class."""
    return name == "__class__" and name in code.co_freevars and len({id(cell.cell_contents) for cell in cells.values()}) == 1


_JUMPS = frozenset(dis.hasjrel) | frozenset(dis.hasjabs)


def _instructions(code: types.CodeType, first: int, last: int, without: set[int]) -> list[tuple[str, Any]]:
    """Return the instructions of some lines, without the targets of jumps and what depends on the rest of the function."""
    listed: list[tuple[str, Any]] = []
    for instruction in dis.get_instructions(code):
        position = instruction.positions
        line = None if position is None else position.lineno
        if line is None or not first <= line <= last or line in without or instruction.opname in ("EXTENDED_ARG", "NOP", "CACHE"):
            continue
        name, value = instruction.opname, instruction.argval
        if instruction.opcode in _JUMPS or "JUMP" in name:
            continue
        if name.startswith(("LOAD_FAST", "STORE_FAST")):
            name = "FAST"
        if isinstance(value, types.CodeType):
            value = tuple(_instructions(value, first, last, without))
        elif instruction.opcode not in (*dis.hasconst, *dis.hasname, *dis.haslocal, *dis.hasfree):
            value = None
        listed.append((name, (type(value).__name__, repr(value))))
    return listed
