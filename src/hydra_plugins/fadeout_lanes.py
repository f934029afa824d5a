"""Hydra's plugins: a launcher that trains a whole multirun in few programs, and a
sweeper that does not compose every job twice. Read at the start of every Hydra application, hence
light: the work is in `fadeout.cli.app`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher


@dataclass
class _LanesLauncherConf:
    _target_: str = "hydra_plugins.fadeout_lanes.LanesLauncher"
    fail_fast: bool = False
    job_dirs: bool = False
    executor: str = "local"
    jobs: int = 4
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class _LanesSweeperConf:
    _target_: str = "hydra_plugins.fadeout_lanes.LanesSweeper"
    params: dict[str, str] = field(default_factory=dict)


@dataclass
class _OptunaSweeperConf:
    _target_: str = "hydra_plugins.fadeout_lanes.OptunaSweeper"
    params: dict[str, str] = field(default_factory=dict)
    n_trials: int = 64
    batch: int = 8
    seeds: int = 8
    by: Any = "loss"
    sampler_seed: int = 0


class LanesLauncher(Launcher):
    """Hands all jobs of a multirun to `fadeout.cli.app` at once.

    Args:
      fail_fast: stop at the first program that fails; otherwise its runs alone are lost.
      job_dirs: write a folder with .hydra/ for each job, as Hydra's own launcher does.
      executor: who trains: local, processes, submitit or dask.
      jobs: into how many parts the sweep is cut for its workers.
      options: of the executor.
    """

    def __init__(self, job_dirs: bool = False, **launch: Any) -> None:
        super().__init__()
        self.job_dirs = job_dirs
        self.launch_options = launch

    def setup(self, *, hydra_context, task_function, config) -> None:
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        return self.launch_with(job_overrides, {})

    def launch_with(
        self, job_overrides: Sequence[Sequence[str]], how: dict[str, Any]
    ) -> Sequence[JobReturn]:
        """Trains jobs as `launch`, with other options of `fadeout.cli.app.Launch`."""
        from fadeout.cli.app import Launch, run_jobs
        from fadeout.cli.jobs import Jobs

        jobs = Jobs(self.hydra_context, self.config, self.task_function, self.job_dirs)
        losses = run_jobs(jobs, job_overrides, Launch(**self.launch_options, **how))
        return jobs.end(job_overrides, losses)


class LanesSweeper(BasicSweeper):
    """Hydra's basic sweeper, without composing each job once more only to validate it; studies
    that are swept over bring their own sweeps."""

    def __init__(self, params: dict[str, str] | None = None) -> None:
        super().__init__(max_batch_size=None, params=params)

    def sweep(self, arguments: list[str]) -> Any:
        from fadeout.cli.app import error_boundary
        from fadeout.cli.compose import expand_sweep

        with error_boundary():
            jobs = expand_sweep(self.hydra_context.config_loader, self.params, arguments)
        returns = self.launcher.launch(jobs, initial_job_idx=0)
        for job in returns:
            _ = job.return_value  # raises what a job of another launcher raised
        return [returns]


class OptunaSweeper(LanesSweeper):
    """Searches intervals and choices by Optuna, batch after batch.

    Args:
      n_trials: in all; what is stored already is not trained again.
      batch: trials that are asked for at once.
      seeds: of each trial, where the command line names none.
      by: what is searched for: loss, validation_loss, solved, accuracy, ...; or several of them.
      sampler_seed: decides which trials are asked.
    """

    def __init__(self, params: dict[str, str] | None = None, **asked: Any) -> None:
        super().__init__(params)
        self.asked = asked

    def sweep(self, arguments: list[str]) -> Any:
        from fadeout.cli.app import error_boundary
        from fadeout.cli.search import search_by

        with error_boundary():
            given = [f"{key}={value}" for key, value in (self.params or {}).items()]
            loader = self.hydra_context.config_loader
            return search_by(loader, [*given, *arguments], self.launcher, **self.asked)


for _group, _name, _node in (
    ("launcher", "lanes", _LanesLauncherConf),
    ("sweeper", "lanes", _LanesSweeperConf),
    ("sweeper", "fadeout_optuna", _OptunaSweeperConf),
):
    ConfigStore.instance().store(
        group=f"hydra/{_group}", name=_name, node=_node, provider="fadeout"
    )
