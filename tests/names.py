"""Measures how well the names in the package say what they hold: python -m tests.names [--list].

It counts vague names, public functions and classes that have one name in several files, local variables that hide a function or an
import of their file, and circles of imports, also of those inside functions, for types only, or by `import_module`. It ends with 1
if a count is over its bound.
"""

import argparse
import ast
import sys
from collections import Counter, defaultdict
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "tui_gru"
#: Words that name nothing of the field.
VAGUE = {
    "found", "each", "known", "own", "every", "given", "what", "told", "said", "seen", "taken", "there", "whole", "here",
    "beside", "way", "thing", "things", "it", "so", "such", "wanted", "needed", "asked", "tried", "held", "kept", "gone",
    "apart", "along",
}  # fmt: skip
#: The counts may only fall. The vague names that are left are mostly public: methods, keywords and fields of results.
MOST_VAGUE, MOST_HOMONYMS, MOST_SHADOWS, MOST_CIRCLES = 0.001, 10, 0, 0
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def names_of(tree):
    """Yield every name that code binds or reads: variables, parameters, functions and classes."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(name) | ast.arg(name) | ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
                yield name


def shadows_of(tree):
    """Yield the line of a function, and the name of a variable of it that hides a function, a class or an import of its file."""
    outer = {node.name for node in tree.body if isinstance(node, FUNCTIONS | ast.ClassDef)}
    imports = chain.from_iterable(node.names for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    outer |= {(alias.asname or alias.name).partition(".")[0] for alias in imports}
    for function in ast.walk(tree):
        if isinstance(function, FUNCTIONS):
            stores = (node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
            yield from ((function.lineno, name) for name in sorted(outer.intersection(stores)))


def imports_of(tree, modules):
    """Return the modules of the package that a file imports, wherever in it."""
    imported = set()
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module)):
                imported |= {name if (name := f"{module}.{alias.name}") in modules else module for alias in node.names}
            case ast.Import():
                imported |= {alias.name for alias in node.names}
            case ast.Call(func=ast.Name("import_module") | ast.Attribute(attr="import_module"), args=[ast.Constant(str(name))]):
                imported.add(name)
    return imported & modules


def circle_of(graph):
    """Return the modules on one circle of imports; none if there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="also list them, by file")
    listing = parser.parse_args().list
    trees = {
        path.relative_to(PACKAGE.parent): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))
    }

    uses = Counter(chain.from_iterable(map(names_of, trees.values())))
    vague = Counter({name: count for name, count in uses.items() if name.strip("_") in VAGUE})
    homes = defaultdict(list)
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, FUNCTIONS | ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(str(path))
    homonyms = {name: paths for name, paths in homes.items() if len(paths) > 1}
    shadows = [(path, *shadow) for path, tree in trees.items() for shadow in shadows_of(tree)]
    modules = {".".join(path.with_suffix("").parts): tree for path, tree in trees.items() if path.stem != "__init__"}
    circle = circle_of({name: imports_of(tree, modules.keys()) - {name} for name, tree in modules.items()})

    share = vague.total() / uses.total()
    print(f"{uses.total():,} names: {share:.2%} vague, {len(homonyms)} public homonyms, {len(shadows)} shadows", end="")
    print(f", a circle of imports: {' → '.join(circle)}" if circle else ", no circle of imports")
    if listing:
        print("vague:", ", ".join(f"{name} {count}" for name, count in vague.most_common(40)))
        for path, tree in trees.items():
            if count := sum(name in vague for name in names_of(tree)):
                print(f"{path}: {count} vague")
        for name, paths in sorted(homonyms.items()):
            print("homonym:", name, *paths)
        for path, line, name in shadows:
            print(f"shadow: {path}:{line} {name}")
    over = (share > MOST_VAGUE, len(homonyms) > MOST_HOMONYMS, len(shadows) > MOST_SHADOWS, bool(circle) > MOST_CIRCLES)
    if any(over):
        kinds = [kind for kind, is_over in zip(("vague names", "homonyms", "shadows", "circles"), over, strict=True) if is_over]
        sys.exit(f"too many {' and '.join(kinds)}; python -m tests.names --list shows them")


if __name__ == "__main__":
    main()
