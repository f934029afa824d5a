"""Compiled programs kept in a folder, by a key of our own, and loaded without being traced again.

JAX's persistent cache spares XLA's work, but every process traces and lowers each program first,
which takes about a third as long again. A key of our own needs no program: it
is made of all that decides one. What is kept are executables; they fit one version of the libraries
and one kind of processor.
"""

import contextlib
import functools
import hashlib
import os
import pickle
import platform
import stat
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import platformdirs
from jax.experimental import serialize_executable

from fadeout.files import remove_abandoned, replace_file
from fadeout.registry import FadeoutError

_PACKAGE = Path(__file__).parents[1]
_MAGIC = b"fadeout program 1\n"


class _CompileCounts(NamedTuple):
    """Counts of programs that were found, compiled or refused.

    Attributes:
      found: of each, whether it came from the folder, or was compiled.
      refused: why others that lay there did not come.
    """

    found: list[bool]
    refused: list[str]


_compile_counts: ContextVar[_CompileCounts] = ContextVar("tally")


@contextlib.contextmanager
def counting_compiles() -> Iterator[_CompileCounts]:
    """Counts what is asked for inside, also by threads that run in this context."""
    token = _compile_counts.set(_CompileCounts([], []))
    try:
        yield _compile_counts.get()
    finally:
        _compile_counts.reset(token)


CACHE_FOLDER: dict[str, Path | None] = {"folder": None}

DEFAULT_CACHE = "auto"
"""The user's own cache folder, as the system has it."""


def use_program_cache(folder: str | None) -> None:
    """Keeps compiled programs in a folder, from which later processes take them.

    A program is machine code, and is unpickled: whoever may write into the folder may run anything
    as its reader. It therefore lies in the user's own cache, never beside results that travel, and
    a folder that others may write into is refused.

    Args:
      folder: `auto` is the user's cache folder; None keeps nothing. It is made when needed, for its
        owner alone, and safe to delete; each version of jaxlib and kind of processor has a folder
        of its own inside.

    Raises:
      FadeoutError: it is no folder, or others may write into it.
    """
    if folder is None:
        CACHE_FOLDER["folder"] = None
        return
    if "\0" in folder or not folder.isprintable():
        raise FadeoutError(f"cache={folder!r} is no name of a folder")
    top = (
        Path(platformdirs.user_cache_dir("fadeout")) / "programs"
        if folder == DEFAULT_CACHE
        else Path(folder)
    )
    _check_private(top)
    place = CACHE_FOLDER["folder"] = top.absolute() / machine_name()
    remove_abandoned(place)


def _check_private(folder: Path) -> None:
    """Refuses a folder of programs into which others may write.

    Raises:
      FadeoutError
    """
    for place in (folder, folder / machine_name()):
        try:
            status = place.lstat() if place != folder else place.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise FadeoutError(f"cache={folder} cannot be read: {error.strerror}") from error
        if not stat.S_ISDIR(status.st_mode):
            raise FadeoutError(f"cache={folder}: {place} is a file, not a folder; null keeps none")
        if os.name != "posix":
            continue
        if status.st_uid != os.getuid():
            raise FadeoutError(
                f"cache={folder} belongs to another user, who could have put any program there: "
                "give a folder of your own, or cache=null"
            )
        if status.st_mode & 0o022:
            raise FadeoutError(
                f"cache={folder}: others may write into {place}, and could put any program there: "
                f"chmod go-w {place}, or cache=null"
            )


def _make_private(folder: Path) -> None:
    """Makes a folder, and those above it that are missing, for their owner alone."""
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


@functools.cache
def machine_name() -> str:
    """The version of jaxlib, and this machine's kind of processor, as a folder's name."""
    kind = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        kind += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        kind += platform.processor()
    return f"jaxlib-{metadata.version('jaxlib')}-{hashlib.sha256(kind.encode()).hexdigest()[:8]}"


def source_digest() -> str:
    """A hash of the sources that decide a program."""
    sources = [_PACKAGE / f"{name}.py" for name in ("config", "schema", "registry", "extensions")]
    sources += sorted(
        p for room in ("networks", "training") for p in (_PACKAGE / room).glob("*.py")
    )
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()


SOURCES = source_digest()
"""Made when this is imported: what is edited later is not what runs here."""

_SETTINGS = ("jax_enable_x64", "jax_default_prng_impl", "jax_threefry_partitionable",
            "jax_default_matmul_precision", "jax_numpy_dtype_promotion")  # fmt: skip


def environment_key() -> str:
    """Returns what decides a program besides the run: sources, versions, flags and settings."""
    versions = [f"{name} {metadata.version(name)}" for name in ("jax", "jaxlib", "flax", "optax")]
    environment = sorted(os.environ.items())
    flags = [f"{name}={value}" for name, value in environment if name.startswith(("XLA_", "JAX_"))]
    settings = [f"{name}={getattr(jax.config, name, None)}" for name in _SETTINGS]
    return "; ".join([SOURCES, *versions, *flags, *settings])


def load_or_compile(
    what: tuple,
    decomposes: bool,
    device: jax.Device,
    compile_now: Callable[[], Any],
) -> Any:
    """A program from the folder, or compiled now and put there.

    An entry that is cut off, foreign or stale is compiled again and replaced, never trusted.

    Args:
      what: all that decides it, as text would: its repr is the key. A user's functions are in it by
        their digests, the package's by their names and by its sources.
      decomposes: whether it calls LAPACK, which only lowering makes ready: without it, a program
        that was loaded would jump to nowhere.
      compile_now: gives the executable.
    """
    found, refused = _compile_counts.get(_CompileCounts([], []))
    folder = CACHE_FOLDER["folder"]
    if folder is None or source_digest() != SOURCES:
        found.append(False)
        return compile_now()
    client = device.client.platform_version
    about = f"{device.platform} {device.device_kind} {device.id} {client}; {environment_key()}"
    key = hashlib.sha256(f"{what!r}; {about}".encode()).hexdigest()
    path = folder / f"{key[:32]}.program"
    if decomposes:
        _prepare_lapack()
    try:
        program = _read_program(path, key, device)
        found.append(True)
        return program
    except FileNotFoundError:
        pass
    except Exception as error:  # of as many kinds as there are ways for a file to be wrong
        refused.append(f"{type(error).__name__}: {error}".splitlines()[0][:120])
    found.append(False)
    _taken_from_jax.by_jax = False
    program = compile_now()
    if not _taken_from_jax.by_jax:
        # a full disk, or an executable that cannot be kept: later processes compile again
        with contextlib.suppress(Exception):
            _make_private(path.parent)
            _check_private(path.parents[1])  # it may have been made meanwhile, by somebody else
            replace_file(path, _content_of(program, key))
    return program


_taken_from_jax = threading.local()
"""Whether JAX took the last program of a thread from a cache of its own, if the user has set one:
then it lacks some of its kernels when it is written again (jaxlib 0.10.2: NOT_FOUND, once it runs),
and is not kept."""


def _note_jax_cache(event: str, **_: Any) -> None:
    if event == "/jax/compilation_cache/cache_hits":
        _taken_from_jax.by_jax = True


jax.monitoring.register_event_listener(_note_jax_cache)


@functools.cache
def _prepare_lapack() -> None:
    """Looks up the functions of LAPACK, as lowering any decomposition does."""
    jax.jit(jnp.linalg.qr).lower(jax.ShapeDtypeStruct((2, 2), jnp.float32))


def _content_of(program: Any, key: str) -> bytes:
    body = pickle.dumps(serialize_executable.serialize(program))
    return _MAGIC + key.encode() + hashlib.sha256(body).hexdigest().encode() + body


def _read_program(path: Path, key: str, device: jax.Device) -> Any:
    """
    Raises:
      FileNotFoundError: nothing there.
      ValueError: what is there is not it.
    """
    # one descriptor for the looks and the reading: what lies at the path may be swapped
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no regular file")
        if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
            raise ValueError("another user may have written it")
        content = file.read()
    ends = len(_MAGIC) + 64, len(_MAGIC) + 128
    if content[: ends[0]] != _MAGIC + key.encode():
        raise ValueError("it is of another program")
    body = content[ends[1] :]
    if hashlib.sha256(body).hexdigest().encode() != content[ends[0] : ends[1]]:
        raise ValueError("it is cut off or damaged")
    payload, in_tree, out_tree = pickle.loads(body)
    return serialize_executable.deserialize_and_load(
        payload, in_tree, out_tree, execution_devices=[device]
    )
