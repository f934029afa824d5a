"""Training from a notebook, with the command line's grammar, progress and compiled programs."""

import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import xarray as xr
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from fadeout.cli.compose import check_command_line, compose_jobs, expand_sweep, first_lines
from fadeout.cli.menu import CONF
from fadeout.config import Run
from fadeout.registry import FadeoutError, format_value
from fadeout.sweeps import sweep
from fadeout.sweeps.grids import Chain, Grid
from fadeout.training.program_cache import use_program_cache


def train(runs: Run | Sequence[Run], cache: str | None = "auto", quiet: bool = False) -> xr.Dataset:
    """Trains runs in memory, without storing them, and shows progress.

    Args:
      runs: one `Run` or several, whatever their configs.
      cache: the folder of compiled programs, shared with later processes and the command line.
        `auto` is the user's own cache folder; None keeps no programs.
      quiet: whether to hide the progress.

    Returns:
      The dataset that `fadeout.load` would give, with one row for each run, in their order.

    Raises:
      FadeoutError: a run cannot be trained. This is found before anything is computed.

    >>> result = train([Run(seed=seed) for seed in range(8)], cache=None, quiet=True)
    >>> result.sizes["run"], int((result.status == "solved").sum())
    (8, 8)
    """
    from fadeout.cli import console

    if cache is not None and not isinstance(cache, str | os.PathLike):
        raise FadeoutError(f"cache must be a folder, 'auto' or None, not {format_value(cache)}")
    runs = _checked_runs(runs)
    use_program_cache(None if cache is None else str(cache))
    if quiet:
        return sweep.train_in_memory(runs)
    for line in console.data_lines([runs] if isinstance(runs, Run) else runs):
        print(line, file=sys.stderr)
    with console.progress(sys.stderr) as watch:  # a script's output is its own
        return sweep.train_in_memory(runs, watch)


def _checked_runs(runs: Any) -> Run | Sequence[Run]:
    """One run or several, of any iterable.

    Raises:
      FadeoutError: what is no run.
    """
    if isinstance(runs, Run):
        return runs
    if isinstance(runs, str):
        raise FadeoutError(f"train takes runs, not words: fadeout.expand({runs!r}) makes them")
    if not isinstance(runs, Iterable):
        raise FadeoutError(f"train takes a Run, or several, not {format_value(runs)}")
    if isinstance(runs, Grid | Chain):
        return runs
    try:
        several = list(runs)
    except TypeError:  # an array without axes
        raise FadeoutError(f"train takes a Run, or several, not {format_value(runs)}") from None
    for run in several:
        if not isinstance(run, Run):
            raise FadeoutError(f"train takes a Run, or several; among them is {format_value(run)}")
    return several


def expand(line: str = "") -> list[Run]:
    """The runs that a multirun would train, in its order.

    Args:
      line: what would follow `fadeout train -m`: options, values, sweeps or a study. Quote values
        with spaces as in a shell. `name` and `outputs` have no effect.

    Returns:
      One `Run` for each combination, for `fadeout.train`.

    Raises:
      FadeoutError: what the command line would refuse.

    >>> runs = expand("activation=tanh,relu model.depth=2,4 seed=range(0,10)")
    >>> len(runs), runs[-1].activation.name, runs[-1].model.depth, runs[-1].seed
    (40, 'relu', 4, 9)
    """
    if not isinstance(line, str):
        raise FadeoutError(f"expand takes the words of a command line, not {format_value(line)}")
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise FadeoutError(f"expand({line!r}): {str(error).lower()}") from error
    arguments = [word for word in words if word not in ("-m", "--multirun")]
    hydra_config, before = HydraConfig.instance(), HydraConfig.instance().cfg
    try:
        arguments = [word for word in check_command_line(["-m", *arguments], CONF) if word != "-m"]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            master = loader.load_configuration("config", arguments, RunMode.MULTIRUN)
            hydra_config.set_config(master)
            own = master.hydra.sweeper.get("params") or {}
            jobs = expand_sweep(loader, own, list(master.hydra.overrides.task))
            configs = compose_jobs(loader, master, jobs)
    except (HydraException, OmegaConfBaseException) as error:
        raise FadeoutError(first_lines(error)) from error
    finally:
        hydra_config.cfg = before
    return [run for config in configs for run in config.runs()]
