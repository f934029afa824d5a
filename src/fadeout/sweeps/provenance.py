"""Where a result comes from: versions, device, source revision, command."""

import platform
import shlex
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

_PACKAGES = ("fadeout", "jax", "jaxlib", "flax", "optax", "numpy", "xarray", "h5netcdf", "h5py")


@cache
def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


@cache
def source_revision() -> str:
    """The commit of the source, with `+changes` where the tree differs from it; else `unknown`."""
    here = Path(__file__).parents[1]

    def git(*arguments):
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True
        ).stdout

    try:
        inside = Path(git("rev-parse", "--show-toplevel").strip()) / "src" / "fadeout"
        if not inside.is_dir() or not inside.samefile(here):
            return "unknown"
        changed = "+changes" if git("status", "--porcelain", "--", str(here)).strip() else ""
        return git("rev-parse", "HEAD").strip() + changed
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def provenance() -> dict[str, str]:
    """Returns the versions, device, source and command that are stored beside every result, as
    text."""
    return {
        "command": f"{Path(sys.argv[0]).name} {shlex.join(sys.argv[1:])}".strip(),
        "source_revision": source_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{f"version_{package}": version(package) for package in _PACKAGES},
    }
