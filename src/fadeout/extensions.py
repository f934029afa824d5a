"""A user's own files, which add activations, tasks or probes; and what their functions are made of.

An extension is a Python file, or a module that can be imported; importing it registers what it
defines. Installed packages may name theirs in the entry point group `fadeout.extensions`.
"""

import ast
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
TEXTS: dict[str, str] = {}
"""The sources of a user's files, as they were when they were imported or first looked at."""


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
    TEXTS[str(path)] = text.decode("utf-8", "replace")
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


def source(function: Any) -> str:
    """Sixteen hexadecimal digits that change when a function of a user's own does, the file that it
    is in, another of theirs that this imports, or a value that the function uses."""
    parts: list[str] = []
    walk = Walk(parts)
    walk.value(function)
    walk.file(getattr(function, "__module__", None), always=True)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def is_cache(value: Any, name: str) -> bool:
    """Whether an attribute is only what follows from others, once it was asked for."""
    return isinstance(getattr(type(value), name, None), functools.cached_property)


class Walk:
    """What a value is made of, as text; what cannot be seen is told by its type alone.

    Args:
      parts: to which it is added.
    """

    def __init__(self, parts: list[str]):
        self.parts = parts
        self.seen: list[Any] = []  # held, so that none of them is taken for another
        self.files: set[str] = set()

    def value(self, value: Any) -> None:
        if isinstance(value, str | bytes | int | float | complex | None | range | slice):
            self.parts.append(repr(value))
        elif isinstance(value, dict):
            for key in sorted(value, key=repr):
                self.parts.append(repr(key))
                self.value(value[key])
        elif isinstance(value, tuple | list):
            self.parts.append(f"{type(value).__name__} {len(value)}")
            for inside in value:
                self.value(inside)
        elif isinstance(value, set | frozenset):
            self.value(sorted(value, key=repr))
        elif hasattr(value, "__array__") and not isinstance(value, type):
            self.array(value)
        elif not any(value is other for other in self.seen):
            self.seen.append(value)
            self.object(value)

    def object(self, value: Any) -> None:
        """Of an object that is looked at once."""
        name = f"{plain_module(value)}.{getattr(value, '__qualname__', type(value).__qualname__)}"
        self.parts.append(name)
        if isinstance(value, types.ModuleType):
            self.file(value.__name__)
        elif is_installed(getattr(value, "__module__", None) or type(value).__module__) and (
            isinstance(value, type | types.FunctionType | types.BuiltinFunctionType)
        ):
            return  # known by its version
        elif isinstance(value, types.FunctionType):
            self.file(value.__module__)
            self.parts.append(text_of(value.__code__))
            self.value([value.__defaults__, value.__kwdefaults__, uses(value)])
        elif isinstance(value, types.MethodType):
            self.value([value.__func__, value.__self__])
        elif isinstance(value, functools.partial):
            self.value([value.func, value.args, value.keywords])
        elif isinstance(value, type):
            self.file(value.__module__)
            self.value([value.__bases__, {k: v for k, v in vars(value).items() if callable(v)}])
        else:
            slots = [s for kind in type(value).__mro__ for s in getattr(kind, "__slots__", ())]
            held = {name: getattr(value, name, None) for name in slots if isinstance(name, str)}
            held |= getattr(value, "__dict__", {})
            self.value([type(value), {k: v for k, v in held.items() if not is_cache(value, k)}])

    def array(self, value: Any) -> None:
        array = value.__array__()
        self.parts += [str(array.dtype), str(array.shape)]
        if array.dtype.hasobject:
            self.value([array.tolist(), [str(name) for name in getattr(value, "columns", ())]])
        else:
            self.parts.append(hashlib.sha256(array.tobytes()).hexdigest())

    def file(self, module: str | None, always: bool = False) -> None:
        """The text of a user's module as it was imported, and of those of theirs that it imports;
        but not of the script or notebook that runs, much of which asks and does not define.

        Args:
          always: also of a module that is installed, as a package's that brings an extension.
        """
        path = getattr(sys.modules.get(module or ""), "__file__", None)
        if path is None or path in self.files or module == "__main__":
            return
        if is_installed(module) and not always:
            return
        self.files.add(path)
        if path not in TEXTS:  # read once: what is edited later is not what runs
            TEXTS[path] = Path(path).read_text(errors="replace")
        self.parts += [Path(path).name, TEXTS[path]]
        for name in imported_by(TEXTS[path]):
            if is_users(name):
                self.file(name)


@functools.lru_cache(maxsize=256)
def imported_by(text: str) -> tuple[str, ...]:
    """The modules that a source names in its imports, wherever they stand."""
    names: list[str] = []
    try:
        tree = ast.parse(text)
    except SyntaxError:  # no Python, as of a built module
        return ()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
    return tuple(dict.fromkeys(names))


def is_users(module: str) -> bool:
    """Whether a module is a user's own, which is imported if it was not yet."""
    if is_installed(module):
        return False
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return not is_installed(module)


def plain_module(value: Any) -> str:
    """Its module's name, without what an extension's says of the folder that it is in."""
    return re.sub(r"^extension_(\w+)_[0-9a-f]{8}$", r"\1", getattr(value, "__module__", None) or "")


def uses(function: types.FunctionType) -> dict[str, Any]:
    """What a function refers to by name: globals, and variables around it."""
    names = {name for code in codes(function.__code__) for name in code.co_names}
    found = {name: function.__globals__[name] for name in names if name in function.__globals__}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not set yet
            continue
    return found


def codes(code: types.CodeType) -> list[types.CodeType]:
    """A code and those inside."""
    inner = [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return [code, *(deeper for part in inner for deeper in codes(part))]


def text_of(code: types.CodeType) -> str:
    """Its source; where that is not known, as of what was typed at a prompt, its bytecode."""
    try:
        return inspect.getsource(code)
    except OSError:
        plain = [part for part in code.co_consts if not isinstance(part, types.CodeType)]
        own = f"{code.co_code!r} {plain!r} {code.co_names} {code.co_varnames} {code.co_freevars}"
        return "\n".join([own, *map(text_of, codes(code)[1:])])


@functools.cache
def is_installed(module: str | None) -> bool:
    """Whether a module is a library's, known by its version, and not a user's."""
    top = (module or "").split(".")[0]
    if top == "fadeout" or (top in sys.stdlib_module_names and top != "__main__"):
        return True
    file = getattr(sys.modules.get(top), "__file__", None)
    places = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    return file is not None and any(str(file).startswith(f"{place}/") for place in places if place)
