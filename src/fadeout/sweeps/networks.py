"""What was seen of a network of a user's own, on disk: `<folder>/network.nc`."""

import os
import stat
from pathlib import Path
from typing import Any

import xarray as xr

from fadeout.files import write_atomically
from fadeout.registry import FadeoutError
from fadeout.sweeps.results import is_examined

NETWORK_FILE = "network.nc"


def check_new(folder: Path) -> None:
    """Refuses a folder in which something was stored before.

    Raises:
      FadeoutError: it holds a network or a sweep.
    """
    for taken in (folder / NETWORK_FILE, folder / "results", folder):
        if taken.exists() and (taken != folder or not folder.is_dir()):
            raise FadeoutError(f"{taken} is there already: choose another name")


def store_network(found: xr.Dataset, folder: str | os.PathLike) -> Path:
    """Writes what `fadeout.examine` or a watch has seen; nothing is overwritten.

    Raises:
      FadeoutError: the folder holds something already, or cannot be written.
    """
    check_new(Path(folder))
    content: Any = found.to_netcdf(engine="h5netcdf")
    return write_atomically(Path(folder) / NETWORK_FILE, bytes(content))


def load_network(path: Path) -> xr.Dataset:
    """Reads what `store_network` wrote.

    Raises:
      FadeoutError: it is damaged, or no such file.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(0, "it is no regular file")
        found = xr.load_dataset(path, engine="h5netcdf")
    except PermissionError as error:
        raise FadeoutError(f"{path} cannot be read: Permission denied") from error
    except Exception as error:  # whatever HDF5 and xarray say of a file that is not theirs
        why = " ".join(str(error).split())[:200]
        raise FadeoutError(
            f"{path} is damaged, or no network that fadeout stored ({why})"
        ) from error
    if not is_examined(found) or not {"delta_norm", "verdict", "layer"} <= set(found.variables):
        raise FadeoutError(f"{path} is no network that fadeout stored")
    return found
