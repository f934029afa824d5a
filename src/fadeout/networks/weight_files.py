"""Weights from a file: an npz of `kernel_1`, `bias_1`, ..., the readout last."""

import functools
import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fadeout.files import read_regular
from fadeout.networks.tables import MAX_BYTES, arrays_in
from fadeout.registry import FadeoutError, printable


class Weights(NamedTuple):
    """A file of weights.

    Attributes:
      name: of the file.
      kernels: [in, out] of every layer, bottom to top.
      biases: [out] of each; 0 where the file has none.
      digest: a hash of the file's content.
    """

    name: str
    kernels: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    digest: str


def read_weights(file: str) -> Weights:
    """The weights of an npz file.

    Raises:
      FadeoutError: there is no such file, or it is not of one network.
    """
    if not file:
        raise FadeoutError("init=given needs its file: init.npz=weights.npz")
    try:
        path = Path(file).expanduser()
        status = path.stat()
        return _read_weight_file(path.absolute(), status.st_mtime_ns, status.st_size)
    except (OSError, ValueError, RuntimeError) as error:  # no home, or a name that none can have
        if isinstance(error, FadeoutError):
            raise
        why = getattr(error, "strerror", None) or error
        raise FadeoutError(f"init.npz={printable(file)} cannot be read: {why}") from error


@functools.lru_cache(maxsize=16)
def _read_weight_file(path: Path, changed: int, size: int) -> Weights:
    content = read_regular(path, MAX_BYTES)
    arrays = arrays_in(path, content)
    count = sum(name.startswith("kernel_") for name in arrays)
    kernels = [f"kernel_{layer}" for layer in range(1, count + 1)]
    biases = [f"bias_{layer}" for layer in range(1, count + 1)]
    odd = sorted(arrays.keys() - {*kernels, *biases})
    if count < 2 or odd or not set(kernels) <= arrays.keys():
        raise FadeoutError(
            f"{path.name} must hold kernel_1, bias_1, kernel_2, ... of a hidden layer or more, and "
            f"the readout's last, not {', '.join(odd or sorted(arrays)) or 'nothing'}"
        )
    for name, array in arrays.items():
        kernel = arrays[name.replace("bias", "kernel")]
        wanted, words = (2, "[in, out]") if array is kernel else (1, "[out], as many as its kernel")
        if array.ndim != wanted or array.shape[-1:] != kernel.shape[-1:]:
            raise FadeoutError(f"{path.name}: {name} must be {words}, not {array.shape}")
        if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
            raise FadeoutError(f"{path.name}: {name} must be of finite numbers")
    zeros = {bias: np.zeros(arrays[k].shape[1]) for k, bias in zip(kernels, biases, strict=True)}
    return Weights(
        path.name,
        tuple(arrays[name] for name in kernels),
        tuple((zeros | arrays)[name] for name in biases),
        hashlib.sha256(content).hexdigest()[:16],
    )
