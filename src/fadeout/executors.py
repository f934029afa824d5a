"""Who trains a sweep: this process, or workers of an engine that is reached by name.

An engine is anything that can `submit` like an executor of `concurrent.futures`. The libraries
behind it are extras, imported when they are asked for.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from fadeout.registry import FadeoutError, lookup


@contextmanager
def processes(**options: Any):
    """Fresh processes of this machine; options of `concurrent.futures.ProcessPoolExecutor`."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context("spawn")  # a fork of a process with threads hangs
    with ProcessPoolExecutor(mp_context=context, **options) as pool:
        yield pool


@contextmanager
def submitit(folder: str = ".submitit", cluster: str | None = None, **options: Any):
    """Slurm jobs by submitit; options of its `AutoExecutor.update_parameters`.

    Args:
      folder: of logs and pickles; shared.
      cluster: `slurm`, `local` or `debug`; by default what is there.
    """
    library = extra("submitit", "submitit")
    auto = library.AutoExecutor(folder=folder, cluster=cluster)
    auto.update_parameters(**options)
    yield auto


@contextmanager
def dask(address: str | None = None, **options: Any):
    """A Dask cluster.

    Args:
      address: of a scheduler that runs; otherwise a `LocalCluster` of these options is started.
    """
    library = extra("distributed", "dask")
    if address is not None and options:
        raise FadeoutError("a dask address takes no other options: they are the cluster's own")
    target = {"address": address} if address else options
    with library.Client(**target) as client:
        yield client.get_executor(pure=False, retries=0)


EXECUTORS: dict[str, Callable | None] = {
    "local": None,
    "processes": processes,
    "submitit": submitit,
    "dask": dask,
}


@contextmanager
def executor(name: str, options: Mapping[str, Any]) -> Iterator[Any]:
    """The executor of this name, for as long as the context lasts; None for this process.

    Raises:
      FadeoutError: unknown name, a library that is not installed, or an option that it refuses.
    """
    engine = lookup(EXECUTORS, name, "hydra.launcher.executor")
    if engine is None:
        if options:
            raise FadeoutError("hydra.launcher.options are of an executor: choose one, not local")
        yield None
        return
    with ExitStack() as stack:
        try:
            workers = stack.enter_context(engine(**options))
        except (TypeError, ValueError, NameError) as error:
            if isinstance(error, FadeoutError):
                raise
            raise FadeoutError(f"{name} refuses hydra.launcher.options: {error}") from error
        yield workers


def extra(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise FadeoutError(
            f"hydra.launcher.executor={name} needs an extra: pip install 'fadeout[{name}]'"
        ) from error
