"""Files that are whole or not there."""

import os
from pathlib import Path

from fadeout.registry import FadeoutError


def write_whole(path: Path, content: bytes) -> Path:
    """Writes a file under another name and then gives it its own, so that whatever bore it before
    is there until the new one is whole.

    Raises:
      FadeoutError: it cannot be written; what was there is untouched.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        try:
            partial.write_bytes(content)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise FadeoutError(f"{path} cannot be written: {error.strerror or error}") from error
    return path
