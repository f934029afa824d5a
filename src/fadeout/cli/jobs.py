"""The jobs of a multirun as Hydra's own launcher shows them: a folder each, and callbacks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf, open_dict

from fadeout.cli.compose import without_hydra


class Jobs:
    """Composes each job's whole config, which takes Hydra 50 ms, only where somebody looks at it.

    Args:
      context: Hydra's, with its config loader and callbacks.
      master: the multirun's own config.
      task_function: what a job would call.
      folders: whether each job gets a folder jobs/<number>/.hydra/ in the sweep's.
    """

    def __init__(self, context: Any, master: DictConfig, task_function: Any, folders: bool):
        self.context, self.master, self.task_function = context, master, task_function
        self.folders = folders
        self.configs: list[DictConfig] = []

    def start(self, jobs: Sequence[Sequence[str]]) -> None:
        """Writes the folders and tells the callbacks that jobs start."""
        if not self.folders and not self.context.callbacks.callbacks:
            return
        if self.folders:
            place = Path(self.master.hydra.sweep.dir)
            place.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(self.master, place / "multirun.yaml")
        for number, overrides in enumerate(jobs):
            config = self.context.config_loader.load_sweep_config(self.master, list(overrides))
            with open_dict(config):
                config.hydra.job.id = config.hydra.job.num = number
            HydraConfig.instance().set_config(config)
            if self.folders:
                _write_folder(config, Path(self.master.hydra.sweep.dir) / "jobs" / str(number))
            self.context.callbacks.on_job_start(config=config, task_function=self.task_function)
            self.configs.append(config)

    def end(self, jobs: Sequence[Sequence[str]], losses: Sequence[Any]) -> list[JobReturn]:
        """Tells the callbacks that jobs end, and returns what Hydra expects of a launcher."""
        returns = [
            JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED, _return_value=loss)
            for overrides, loss in zip(jobs, losses, strict=True)
        ]
        for config, job in zip(self.configs, returns, strict=False):
            job.cfg, job.hydra_cfg = without_hydra(config), config
            self.context.callbacks.on_job_end(config=config, job_return=job)
        return returns


def _write_folder(config: DictConfig, folder: Path) -> None:
    """The three files that Hydra writes for a job."""
    hydra = folder / ".hydra"
    hydra.mkdir(parents=True, exist_ok=True)
    parts = {
        "config": without_hydra(config),
        "hydra": OmegaConf.masked_copy(config, ["hydra"]),
        "overrides": config.hydra.overrides.task,
    }
    for name, part in parts.items():
        (hydra / f"{name}.yaml").write_text(OmegaConf.to_yaml(part))
