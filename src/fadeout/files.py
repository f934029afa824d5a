"""Files that are whole or not there."""

import contextlib
import functools
import hashlib
import os
import re
import secrets
import socket
import stat
import time
from pathlib import Path

from fadeout.registry import FadeoutError

_DAY = 86_400.0
_TEMPORARY_NAME = re.compile(r"\.[0-9a-f]{8}\.(?P<machine>.+)\.(?P<process>\d+)\.(partial|writer)")
"""What `temporary_name` gives."""


def read_regular(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file; a pipe or a device, which might never end, is not opened.

    Raises:
      OSError: it cannot be read, is no regular file, or is larger than so many bytes.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise OSError(0, f"it is {kind}")
    if status.st_size > max_bytes:
        raise OSError(0, f"it has {status.st_size:,} bytes, more than {max_bytes:,}")
    with open(path, "rb") as file:
        return file.read(max_bytes)


def write_atomically(path: Path, content: bytes) -> Path:
    """Writes a file under another name and then gives it its own, so that whatever bore it before
    is there until the new one is whole.

    Raises:
      FadeoutError: it cannot be written; what was there is untouched.
    """
    try:
        replace_file(path, content)
    except OSError as error:
        raise FadeoutError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """`write_atomically`, with the error as it comes. Links are followed; only a regular file is
    replaced; all is on the disk before it bears its name.

    Raises:
      OSError
    """
    if not path.name:
        raise OSError(0, "it is a folder, or no name at all")
    try:
        path = path.resolve()
    except RuntimeError as error:  # Python 3.11 and 3.12
        raise OSError(0, "it is a link that leads to itself") from error
    if path.is_symlink():  # newer Pythons leave such a one as it is
        raise OSError(0, "it is a link that leads to itself")
    if path.is_dir():
        raise OSError(0, "it is a folder")
    if path.exists() and not path.is_file():
        raise OSError(0, "it is not a regular file")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(temporary_name("partial"))
    try:
        with open(partial, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Puts a folder's names on the disk, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        except OSError:  # some file systems of networks
            pass
        finally:
            os.close(handle)


def temporary_name(kind: str) -> str:
    """A hidden name that nobody else has, and that says who made it: machine and process."""
    return f".{secrets.token_hex(4)}.{machine_id()}.{os.getpid()}.{kind}"


@functools.cache
def machine_id() -> str:
    """Returns the machine and the container, within which a process id is unique."""
    told = []
    with contextlib.suppress(OSError):  # another system than Linux: the name has to do
        told.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        told.append(os.readlink("/proc/self/ns/pid"))
    return f"{socket.gethostname()[:60]}-{hashlib.sha256(repr(told).encode()).hexdigest()[:8]}"


def is_abandoned(path: Path) -> bool:
    """Returns whether a file has a `temporary_name` and its writer is gone.

    A writer on this machine is gone when its process has ended; one on another machine, when the
    file is a day old.
    """
    mark = _TEMPORARY_NAME.fullmatch(path.name)
    if mark is None or path.is_symlink() or not path.is_file():
        return False
    if mark["machine"] == machine_id():
        return int(mark["process"]) != os.getpid() and not process_alive(int(mark["process"]))
    try:
        return time.time() - path.stat().st_mtime > _DAY
    except OSError:
        return False


def process_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # somebody else's
    return True


def remove_abandoned(folder: Path) -> None:
    """Removes what writers that were killed have left."""
    for path in filter(is_abandoned, folder.glob(".*.*.*.*")):
        with contextlib.suppress(OSError):  # another's, in a folder that several use
            path.unlink()
