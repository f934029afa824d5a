"""From Hydra's configs to ours, one at a time or ten thousand.

Hydra takes about 50 ms to compose a config. A multirun's jobs differ by few combinations of
config-group choices and many values; each combination is composed once, and the values are set on
plain data, which takes microseconds.
"""

import copy
import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fadeout.config import Config, kinds, sections_of
from fadeout.registry import FadeoutError, lookup, refuse


def read(config: DictConfig) -> Config:
    """A composed Hydra config, checked.

    Raises:
      FadeoutError: a key that the schema lacks, a wrong type, or a value out of range.
    """
    try:
        return Config.from_dict(complete(plain(config)))
    except OmegaConfBaseException as error:
        raise FadeoutError(first_lines(error)) from error


def complete(data: dict[str, Any]) -> dict[str, Any]:
    """Refuses a config that lacks a part, as `activation=null` leaves it."""
    for key in kinds(Config):
        if key not in data or (data[key] is None and key != "cache"):
            raise FadeoutError(f"{key} is missing from the config: choose one, {key}=...")
    return data


def first_lines(error: Exception) -> str:
    """What an error of Hydra or OmegaConf says, without its list of search paths."""
    words = [str(error), str(error.__cause__ or "")]
    return "; ".join(text.strip().splitlines()[0] for text in words if text.strip())


def plain(config: DictConfig) -> dict[str, Any]:
    container = OmegaConf.to_container(config, resolve=True)
    return {key: value for key, value in container.items() if key != "hydra"}


def check_words(arguments: Sequence[str], conf: Path) -> None:
    """Answers a misspelt option or key in one line, before Hydra answers it in twenty.

    Args:
      arguments: of the command line.
      conf: the folder of the menu. Where options may come from elsewhere, Hydra is left to judge.

    Raises:
      FadeoutError
    """
    usual = {"-m", "--multirun", "--cfg", "-c", "--resolve"}
    flags = {text for text in arguments if text.startswith("-")}
    if flags - usual or any("searchpath" in text for text in arguments):
        return
    try:
        overrides = OverridesParser.create().parse_overrides(
            [text for text in arguments if "=" in text and not text.startswith("-")]
        )
    except HydraException:
        return
    for override in overrides:
        group, value = override.key_or_group, override.value()
        if (conf / group).is_dir() and not override.is_delete():
            options = (path.relative_to(conf / group) for path in (conf / group).rglob("*.yaml"))
            names = dict.fromkeys(sorted(str(path.with_suffix("")) for path in options))
            for name in value.list if isinstance(value, ChoiceSweep) else [value]:
                if isinstance(name, str):
                    lookup(names, name, group)
                elif name is None or isinstance(name, list):
                    raise FadeoutError(f"{group} takes one option; to sweep: -m {group}=a,b")
        elif is_change(override) and not override.is_hydra_override():
            section, *rest = group.split(".")
            kind, _ = lookup(kinds(Config), section, "key")
            if rest and section in sections_of(Config):
                lookup(kinds(kind), rest[0], f"key of {section}")


def compose_jobs(loader: Any, master: DictConfig, jobs: Sequence[Sequence[str]]) -> list[Config]:
    """The configs of a multirun's jobs.

    Args:
      loader: Hydra's config loader.
      master: the multirun's own config.
      jobs: the overrides of each job.

    Raises:
      FadeoutError: jobs that are not valid; all of them at once, grouped by cause.
    """
    parser = OverridesParser.create(config_loader=loader)

    @functools.cache
    def parse(text: str) -> tuple[Override, bool]:
        override = parser.parse_override(text)
        return override, chooses_group(loader, override)

    _ = master.name  # the same for all jobs: resolved once, and copied with Hydra's cache
    shared = set(jobs[0]).intersection(*jobs[1:]) if jobs else set()
    bases: dict[tuple[str, ...], Base] = {}
    configs = []
    reasons: Counter[str] = Counter()
    for job in jobs:
        overrides = [parse(text) for text in job]
        composed = tuple(
            text
            for text, (_, is_group) in zip(job, overrides, strict=True)
            if is_group or text in shared
        )
        try:
            if composed not in bases:
                bases[composed] = Base(loader, loader.load_sweep_config(master, list(composed)))
            values = [
                override
                for text, (override, is_group) in zip(job, overrides, strict=True)
                if not is_group and text not in shared
            ]
            configs.append(bases[composed].with_values(values))
        except (FadeoutError, HydraException, OmegaConfBaseException) as error:
            reasons[first_lines(error)] += 1
    refuse(reasons, "jobs are not valid")
    return configs


def chooses_group(loader: Any, override: Override) -> bool:
    """Whether an override chooses an option of a config group, by Hydra's own rule."""
    if override.is_hydra_override():
        return True
    is_group = loader.repository.group_exists(override.key_or_group)
    return is_group and not isinstance(override.value(), dict)


class Base:
    """A composed config, on which the values of many jobs are set."""

    def __init__(self, loader: Any, config: DictConfig):
        self.loader = loader
        self.config = config
        raw = OmegaConf.to_container(config, resolve=False)
        raw.pop("hydra")
        places = {"name": "${now:", "cache": "${outputs}"}
        self.data = None
        if not depends({k: v for k, v in raw.items() if not begins(v, places.get(k))}):
            self.data = plain(config)

    def with_values(self, overrides: Sequence[Override]) -> Config:
        if self.data is not None and all(map(only_sets_values, overrides)):
            data = {k: dict(v) if isinstance(v, dict) else v for k, v in self.data.items()}
            if all(put(data, o.key_or_group.split("."), o.value()) for o in overrides):
                return Config.from_dict(complete(data))
        config = copy.deepcopy(self.config)
        self.loader._apply_overrides_to_config(list(overrides), config)
        return read(config)


def put(data: dict[str, Any], path: list[str], value: Any) -> bool:
    """Sets a value that is there already; False where it is not."""
    *sections, key = path
    for section in sections:
        data = data.get(section, {})
        if not isinstance(data, dict):
            return False
    if key not in data or isinstance(data[key], dict):
        return False
    data[key] = value
    return True


def begins(value: Any, start: str | None) -> bool:
    return start is not None and str(value).startswith(start)


def only_sets_values(override: Override) -> bool:
    """Whether an override sets a value of the run, and neither adds, deletes nor refers."""
    if override.key_or_group == "outputs":
        return False
    return (
        is_change(override)
        and not isinstance(override.value(), dict)
        and not depends(override.value())
    )


def is_change(override: Override) -> bool:
    return not (override.is_add() or override.is_force_add() or override.is_delete())


def depends(value: Any) -> bool:
    """Whether a value refers to others by an interpolation."""
    if isinstance(value, dict):
        return any(map(depends, value.values()))
    if isinstance(value, list):
        return any(map(depends, value))
    return isinstance(value, str) and "${" in value
