"""Completion in the shell: what can be typed for the options and arguments, and the scripts for bash, zsh and fish.

Each function takes what click gives it (the context, the parameter, the text typed so far) and returns the candidates. Click's own
scripts complete either names or files; ours also mix them, and write no space after a folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from click import Context, Parameter
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ZshComplete, add_completion_class

Candidates = Callable[[Context, Parameter, str], list[CompletionItem]]
MOST_FILES = 10_000  # of a folder, that are looked at
PATH = "path"  # the type of a candidate that is a file or a folder
MODEL_FILES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".onnx", ".npz", ".keras", ".h5", ".hdf5")
SESSION_FILE = ".tui-gru"


def files(*suffixes: str) -> Candidates:
    """Return the candidates for a file with one of these suffixes."""
    return lambda context, parameter, typed: list(_files(typed, suffixes))


def pieces(*kinds: str, with_files: bool = True) -> Candidates:
    """Return the candidates for the built-in pieces of these kinds, with their titles, and `with_files` for the files of a user."""

    def candidates(context: Context, parameter: Parameter, typed: str) -> list[CompletionItem]:
        from tui_gru.equations.page import choices, shipped

        named = ((kind, name) for kind in kinds for name in choices(kind) if name.startswith(typed))
        items = [CompletionItem(name, help=shipped(kind, name).title) for kind, name in named]
        return [*items, *_files(typed, tuple(f".{kind}" for kind in kinds))] if with_files else items

    return candidates


def themes(context: Context, parameter: Parameter, typed: str) -> list[CompletionItem]:
    from tui_gru.tui.theme import OWN_THEMES

    return list(_names(typed, OWN_THEMES))


def session_completions(context: Context, parameter: Parameter, typed: str) -> list[CompletionItem]:
    """Return the saved sessions by name, and session files and folders: a recording is a folder."""
    from tui_gru.storage.store import LAST, own_files

    names = sorted({path.stem for path in own_files() if path.stem.isprintable()})
    newest = [CompletionItem(LAST, help="the newest")] if names and LAST.startswith(typed) else []
    return [*newest, *_names(typed, names), *_files(typed, (SESSION_FILE,))]


def verbs(context: Context, parameter: Parameter, typed: str) -> list[CompletionItem]:
    """Return the commands of the debugger, after those that are typed already and end with `;`."""
    from tui_gru.tui.verbs import VERBS

    done = typed[: typed.rfind(";") + 1]
    before = f"{done} " if done else ""
    begun = typed[len(done) :].lstrip()
    return [CompletionItem(f"{before}{verb.names[0]}") for verb in VERBS if verb.names and verb.names[0].startswith(begun)]


def _names(typed: str, names: Iterable[str]) -> Iterator[CompletionItem]:
    return (CompletionItem(name) for name in names if name.startswith(typed))


def _files(typed: str, suffixes: tuple[str, ...]) -> Iterator[CompletionItem]:
    """Yield the folders, with a slash, and the files with one of the suffixes in the folder that is typed, spelled as typed."""
    at = max(typed.rfind("/"), typed.rfind(os.sep)) + 1
    folder, begun = typed[:at], typed[at:]
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:
            names = sorted((entry.name, entry.is_dir()) for entry in islice(entries, MOST_FILES))
    except (OSError, ValueError):  # there is no such folder
        return
    for name, is_folder in names:
        is_meant = name.startswith(begun) and (begun or not name.startswith(".")) and name.isprintable()
        if is_meant and (is_folder or name.lower().endswith(suffixes)):
            yield CompletionItem(f"{folder}{name}{'/' if is_folder else ''}", type=PATH)


class _Bash(BashComplete):
    source_template = r"""
%(complete_func)s() {
    local IFS=$'\n' response completion type value
    response=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD %(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            path) COMPREPLY+=("$value"); compopt -o filenames ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def format_completion(self, item: CompletionItem) -> str:
        # With `compopt -o filenames`, bash adds the slash of a folder itself.
        return f"{item.type},{item.value.removesuffix('/') if item.type == PATH else item.value}"


class _Zsh(ZshComplete):
    source_template = r"""
#compdef %(prog_name)s
%(complete_func)s() {
    local -a names described files folders response
    local type value help
    (( ! $+commands[%(prog_name)s] )) && return 1
    response=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) %(complete_var)s=zsh_complete %(prog_name)s)}")
    for type value help in $response; do
        case "$type" in
            dir) _path_files -/ ;;
            file) _path_files -f ;;
            path) [[ "$value" == */ ]] && folders+=("$value") || files+=("$value") ;;
            plain) [[ "$help" == "_" ]] && names+=("$value") || described+=("${value//:/\\:}:$help") ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described -U
    (( $#names )) && compadd -U -V names -a names
    (( $#files )) && compadd -U -f -V files -a files
    (( $#folders )) && compadd -U -f -S '' -V folders -a folders
    return 0
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.type}\n{item.value}\n{item.help or '_'}"


class _Fish(FishComplete):
    source_template = r"""
function %(complete_func)s
    set -l response (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp) COMP_CWORD=(commandline -t) %(prog_name)s)
    for completion in $response
        set -l parts (string split -m 1 "," -- $completion)
        switch $parts[1]
            case dir
                __fish_complete_directories $parts[2]
            case file
                __fish_complete_path $parts[2]
            case path plain
                echo $parts[2]
        end
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""

    def format_completion(self, item: CompletionItem) -> str:
        help_text = f"\t{item.help}" if item.help else ""
        return f"{item.type},{item.value}{help_text}"


def register() -> None:
    """Use our scripts where click is asked for one of these shells."""
    for shell in (_Bash, _Zsh, _Fish):
        add_completion_class(shell)
