"""A user's own files, which add activations, tasks or probes; and what their functions are made of.

An extension is a Python file, or a module that can be imported; importing it registers what it
defines. Installed packages may name theirs in the entry point group `fadeout.extensions`.
"""

import functools
import hashlib
import importlib
import importlib.util
import inspect
import linecache
import re
import sys
import sysconfig
import traceback
import types
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from fadeout.registry import FadeoutError

GROUP = "fadeout.extensions"


def load(extensions: Iterable[str]) -> tuple[str, ...]:
    """Imports extensions, each once; a file that has changed since is imported again.

    Args:
      extensions: files (their names end in .py) or modules.

    Returns:
      The same, the files by their full path, for workers elsewhere.

    Raises:
      FadeoutError: one that does not exist or cannot be imported, with the user's own line.
    """
    load_installed()
    found = []
    for name in extensions:
        if not name.endswith(".py"):
            with told(name, None):
                importlib.import_module(name)
            found.append(name)
            continue
        path = Path(name).expanduser().absolute()
        if not path.is_file():
            raise FadeoutError(f"the extension {name} does not exist: looked for {path}")
        run_file(path)
        found.append(str(path))
    return tuple(found)


@functools.cache
def load_installed() -> None:
    """Those of installed packages."""
    for entry in metadata.entry_points(group=GROUP):
        with told(f"{entry.value} of an installed package", None):
            entry.load()


LOADED: dict[Path, bytes] = {}


def run_file(path: Path) -> None:
    text = path.read_bytes()
    if LOADED.get(path) == text:
        return
    linecache.checkcache(str(path))
    place = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    spec = importlib.util.spec_from_file_location(f"extension_{path.stem}_{place}", path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with told(str(path), path):
        exec(compile(text, str(path), "exec"), module.__dict__)
    LOADED[path] = text


class told:
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


@functools.lru_cache(maxsize=1024)
def source(function: Any) -> str:
    """Sixteen hexadecimal digits that change when a function of a user's own does, or a function,
    constant or module of theirs that it uses."""
    parts: list[str] = []
    collect(function, parts, set())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def collect(value: Any, parts: list[str], seen: set[int]) -> None:
    """What a value is made of, as text."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, types.FunctionType):
        if is_installed(value.__module__):
            parts.append(f"{value.__module__}.{value.__qualname__}")
            return
        parts.append(text_of(value))
        for inside in (value.__kwdefaults__ or {}, value.__defaults__ or (), uses(value)):
            collect(inside, parts, seen)
    elif isinstance(value, types.ModuleType):
        file = getattr(value, "__file__", None)
        if file is None or is_installed(value.__name__):
            parts.append(value.__name__)
        else:
            parts.append(Path(file).read_text())
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            parts.append(str(key))
            collect(value[key], parts, seen)
    elif isinstance(value, tuple | list):
        for inside in value:
            collect(inside, parts, seen)
    elif isinstance(value, str | bytes | int | float | complex | None):
        parts.append(repr(value))
    elif hasattr(value, "__array__"):
        array = value.__array__()
        parts += [str(array.dtype), str(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
    elif isinstance(value, type):
        parts.append(f"{value.__module__}.{value.__qualname__}")
        if not is_installed(value.__module__):
            parts.append(text_of(value))
    else:
        parts.append(re.sub(r" at 0x[0-9a-f]+", "", repr(type(value))))
        inner = getattr(value, "__wrapped__", None)
        collect(vars(value) if inner is None and hasattr(value, "__dict__") else inner, parts, seen)


def uses(function: types.FunctionType) -> dict[str, Any]:
    """What a function refers to by name: globals, and variables around it."""
    names, codes = set(), [function.__code__]
    while codes:
        code = codes.pop()
        names |= set(code.co_names)
        codes += [inner for inner in code.co_consts if isinstance(inner, types.CodeType)]
    found = {name: function.__globals__[name] for name in names if name in function.__globals__}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not set yet
            continue
    return found


def text_of(value: Any) -> str:
    """Its source; where that is not known, as of what was typed at a prompt, its bytecode."""
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):
        code = getattr(value, "__code__", None)
        return f"{value.__qualname__} {code.co_code!r} {code.co_consts!r}" if code else repr(value)


@functools.cache
def is_installed(module: str | None) -> bool:
    """Whether a module is a library's, known by its version, and not a user's."""
    top = (module or "").split(".")[0]
    if top == "fadeout" or (top in sys.stdlib_module_names and top != "__main__"):
        return True
    file = getattr(sys.modules.get(top), "__file__", None)
    places = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    return file is not None and any(str(file).startswith(f"{place}/") for place in places if place)
