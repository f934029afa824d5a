"""A user's own files, which add activations, tasks or probes.

An extension is a Python file, or a module that can be imported; importing it registers what it
defines. Installed packages may name theirs in the entry point group `fadeout.extensions`.
"""

import functools
import hashlib
import importlib
import importlib.util
import inspect
import linecache
import sys
import traceback
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from fadeout.files import read_regular
from fadeout.registry import FadeoutError

_GROUP = "fadeout.extensions"


def load_extensions(extensions: Iterable[str]) -> tuple[str, ...]:
    """Imports extensions, each once; a file that has changed since is imported again.

    Args:
      extensions: files (their names end in .py) or modules.

    Returns:
      The same, the files by their full path, for workers elsewhere.

    Raises:
      FadeoutError: one that does not exist or cannot be imported, with the user's own line.
    """
    _load_installed()
    found = []
    for name in extensions:
        if not name.endswith(".py"):
            with _extension_errors(name, None):
                importlib.import_module(name)
            found.append(name)
            continue
        path = Path(name).expanduser().absolute()
        if not path.exists():
            raise FadeoutError(f"the extension {name} does not exist: looked for {path}")
        _execute_file(path, "the extension ")
        found.append(str(path))
    return tuple(found)


def load_file(name: str) -> ModuleType:
    """Imports a user's file, and gives its module.

    Raises:
      FadeoutError: it does not exist or cannot be imported, with the user's own line.
    """
    path = Path(name).expanduser().absolute()
    if not path.exists():
        raise FadeoutError(f"{name} does not exist: looked for {path}")
    _execute_file(path)
    return sys.modules[_module_name(path)]


@functools.cache
def _load_installed() -> None:
    """Imports the extensions of installed packages."""
    for entry in metadata.entry_points(group=_GROUP):
        with _extension_errors(f"{entry.value} of an installed package", None):
            entry.load()


_MAX_SOURCE = 10 * 2**20

LOADED: dict[Path, bytes] = {}


def _module_name(path: Path) -> str:
    return f"extension_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _execute_file(path: Path, what: str = "") -> None:
    try:
        text = read_regular(path, _MAX_SOURCE)
    except OSError as error:
        raise FadeoutError(f"{what}{path} cannot be read: {error.strerror or error}") from error
    if LOADED.get(path) == text:
        return
    linecache.checkcache(str(path))
    spec = importlib.util.spec_from_file_location(_module_name(path), path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with _extension_errors(str(path), path):
        exec(compile(text, str(path), "exec"), module.__dict__)
    LOADED[path] = text


class _extension_errors:
    """Answers whatever goes wrong in an extension in two lines, with the user's own."""

    def __init__(self, name: str, path: Path | None):
        self.name, self.path = name, path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, trace) -> None:
        if error is None or not isinstance(error, Exception):
            return
        where, line = self.name, ""
        for frame in traceback.extract_tb(trace):
            if self.path is not None and frame.filename == str(self.path):
                where, line = f"{self.name}, line {frame.lineno}", f"\n  {frame.line}"
        if isinstance(error, SyntaxError):
            where, line = (
                f"{error.filename}, line {error.lineno}",
                f"\n  {(error.text or '').strip()}",
            )
        said = str(error) if isinstance(error, FadeoutError) else f"{type(error).__name__}: {error}"
        raise FadeoutError(f"{where}: {said}{line}") from error


def source_text(function: Any) -> str:
    """The source of a user's function, for people; empty where nobody knows it."""
    try:
        return inspect.getsource(inspect.unwrap(function))
    except (OSError, TypeError):
        return ""
