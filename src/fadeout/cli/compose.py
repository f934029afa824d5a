"""From Hydra's configs to ours, one at a time or ten thousand.

Hydra takes about 50 ms to compose a config. A multirun's jobs differ by few combinations of
config-group choices and many values; each combination is composed once, and the values are set on
plain data, which takes microseconds.
"""

import contextlib
import copy
import decimal
import functools
import itertools
import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    Override,
    OverrideType,
    QuotedString,
    RangeSweep,
    Sweep,
)
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from fadeout.cli.config import Config
from fadeout.config import suggest_keys
from fadeout.extensions import load_extensions
from fadeout.registry import (
    MAX_RUNS,
    TABLES,
    FadeoutError,
    lookup,
    parameters,
    raise_grouped,
)
from fadeout.schema import Choice, kinds, sections_of
from fadeout.sweeps.grids import decimal_range


def read_config(config: DictConfig) -> Config:
    """A composed Hydra config, checked.

    Raises:
      FadeoutError: a key that the schema lacks, a wrong type, or a value out of range.
    """
    try:
        return Config.from_dict(_check_complete(_to_container(config)))
    except OmegaConfBaseException as error:
        raise FadeoutError(first_lines(error)) from error


def _check_complete(data: dict[str, Any]) -> dict[str, Any]:
    """Refuses a config that lacks a part, as `activation=null` leaves it."""
    for key in kinds(Config):
        if key == "sources":  # which `resolve` writes
            continue
        if key not in data or (data[key] is None and key != "cache"):
            raise FadeoutError(f"{key} is missing from the config: choose one, {key}=...")
    return data


def first_lines(error: Exception) -> str:
    """Returns the message of a Hydra or OmegaConf error without its list of search paths."""
    words = [str(error), str(error.__cause__ or "").removeprefix("None")]
    return "; ".join(text.strip().splitlines()[0] for text in words if text.strip())


def _to_container(config: DictConfig) -> dict[str, Any]:
    container = OmegaConf.to_container(config, resolve=True)
    return {key: value for key, value in container.items() if key != "hydra"}


_IGNORED = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.output_subdir",
           "hydra.job.chdir")  # fmt: skip
"""Hydra's places of results, which are not ours."""

_LAUNCHING = ("fail_fast", "job_dirs", "executor", "jobs", "options")


def check_command_line(arguments: Sequence[str], conf: Path) -> list[str]:
    """The command line as Hydra is given it, a misspelt option or key answered in one line before
    Hydra answers it in twenty.

    Keys that the schema knows need no plus, whatever the chosen option's YAML says of them, and a
    name is a word, also where it looks like a number.

    Args:
      arguments: of the command line.
      conf: the folder of the menu. Where options may come from elsewhere, Hydra is left to judge.

    Raises:
      FadeoutError
    """
    _register_extensions(arguments, conf)
    usual = {"-m", "--multirun", "--cfg", "-c", "--resolve"}
    flags = {text for text in arguments if text.startswith("-")}
    elsewhere = flags - usual or any("searchpath" in text for text in arguments)
    words = [text.lstrip("+") for text in arguments]
    swept = bool(flags & {"-m", "--multirun"}) or any(
        word.startswith(("experiment=", "hydra.mode="))
        for word in words  # may say so themselves
    )
    of_hydra = any(
        word.startswith("hydra/launcher=") or word.lower() == "hydra.launcher.job_dirs=true"
        for word in words
    )
    parser = OverridesParser.create()
    done = []
    for text in arguments:
        override = None
        if "=" in text and not text.startswith("-"):
            text = _quote_override(text, parser, swept)
            try:
                override = parser.parse_override(text)
            except HydraException as error:
                raise FadeoutError(
                    f"{text} cannot be read ({first_lines(error)}): close its brackets, and put "
                    "a value with other characters in quotes for Hydra inside quotes for the "
                    "shell, \"key='value'\""
                ) from error
        if override is not None:
            _check_override(override, swept, of_hydra)
            if not elsewhere:
                _check_word(override, conf)
            text = _allow_new_key(override, text)
        done.append(text)
    return done


def _quote_override(text: str, parser: OverridesParser, swept: bool) -> str:
    """An override whose value is a name or a path that Hydra's grammar cannot read, as
    `task.file=data(1).csv`, in quotes; anything else as it is."""
    key, _, value = text.partition("=")
    if not _takes_text(key.lstrip("+")):
        return text
    try:
        parser.parse_override(text)
        return text
    except HydraException:
        pass
    parts = value.split(",") if swept else [value]
    words = ",".join("'" + part.replace("\\", "\\\\").replace("'", "\\'") + "'" for part in parts)
    return f"{key}={words}"


def _takes_text(key: str) -> bool:
    """Returns whether a key of the config may be a text, as a name or a path."""
    section, _, rest = key.partition(".")
    return _takes_new_keys(section) if rest else section in ("name", "outputs", "cache")


def _register_extensions(arguments: Sequence[str], conf: Path) -> None:
    """Imports the extensions that a command line names, or a study on it, and puts what they bring
    on Hydra's menu, so that `activation=mine` needs no YAML.

    Raises:
      FadeoutError: one that does not exist or cannot be imported.
    """
    names: list[str] = []
    folders = [conf, *map(Path, _option_values(arguments, ("--config-dir", "-cd")))]
    for text in arguments:
        key, _, value = text.lstrip("+").partition("=")
        if key == "extensions":
            with contextlib.suppress(HydraException):  # Hydra says what is wrong with it
                found = OverridesParser.create().parse_override(f"{key}={value}").value()
                if not isinstance(found, list):
                    raise FadeoutError(f"extensions takes a list: extensions=[{value}]")
                names += map(str, found)
        elif key == "experiment":
            for path in (folder / "experiment" / f"{value}.yaml" for folder in folders):
                if path.is_file():
                    names += map(str, OmegaConf.load(path).get("extensions") or [])
    load_extensions(names)
    for text in arguments:
        key, _, value = text.lstrip("+").partition("=")
        if key == "activation":
            _register_layers(value)
    for group in filter(_takes_new_keys, TABLES):
        for name, entry in TABLES[group].user_entries().items():
            usual = {k: p.default for k, p in parameters(entry).items() if p.default is not None}
            ConfigStore.instance().store(
                group=group, name=name, node={"name": name} | usual, provider="an extension"
            )


def _names_layers(name: str) -> bool:
    """Returns whether a name is of an activation for each layer, as `activations.is_by_layer`."""
    return "-" in name or name[:1].isdigit()


def _register_layers(value: str) -> None:
    """Puts activations for each layer, as tanh-tanh-relu, on Hydra's menu.

    Raises:
      FadeoutError: one that is not written so.
    """
    for name in filter(_names_layers, re.findall(r"[\w-]+", value)):
        from fadeout.networks.activations import layers_of_name  # where nothing else needs JAX

        layers_of_name(name)
        ConfigStore.instance().store(
            group="activation", name=name, node={"name": name}, provider="fadeout"
        )


def _option_values(arguments: Sequence[str], flags: Sequence[str]) -> list[str]:
    """The values of an option of Hydra's, given as the next word or after an equals sign."""
    found = [word for flag, word in itertools.pairwise(arguments) if flag in flags]
    return found + [a.partition("=")[2] for a in arguments if a.partition("=")[0] in flags]


def _check_override(override: Override, swept: bool, of_hydra: bool) -> None:
    """Refuses what would be dropped without a word, or answered by a traceback.

    Args:
      swept: whether this may be a multirun.
      of_hydra: whether Hydra's own folders of jobs are written.
    """
    key, value = override.key_or_group, override.value()
    if key in _IGNORED and not (of_hydra and key.startswith("hydra.sweep.")):
        raise FadeoutError(
            f"{key} has no effect here: results go to outputs/name, as outputs=... and name=... say"
        )
    if key.startswith("hydra.launcher.") and not swept:
        name = key.split(".")[2]
        if name in _LAUNCHING:
            raise FadeoutError(f"{key} is of a multirun: add -m, or leave it out")
    if isinstance(value, RangeSweep) and value.step == 0:
        raise FadeoutError(f"{typed(override)}: a range needs a step that is not 0")


def _check_word(override: Override, conf: Path) -> None:
    """Refuses an option or a key that is not there, and names the nearest."""
    group, value = override.key_or_group, override.value()
    if (conf / group).is_dir() and not override.is_delete():
        options = (path.relative_to(conf / group) for path in (conf / group).rglob("*.yaml"))
        own = TABLES[group].user_entries() if group in TABLES else {}
        names = dict.fromkeys([*sorted(str(path.with_suffix("")) for path in options), *own])
        if isinstance(value, Glob) and not value.filter(list(names)):
            raise FadeoutError(f"no {group} is like {override.input_line}: {', '.join(names)}")
        for name in value.list if isinstance(value, ChoiceSweep) else [value]:
            if isinstance(name, QuotedString):
                name = name.text
            if isinstance(name, str):
                if group != "activation" or not _names_layers(name):
                    lookup(names, name, group)
            elif not isinstance(name, dict | Sweep | Glob):
                raise FadeoutError(f"{group} takes one option; to sweep: -m {group}=a,b")
    elif _is_change(override) and not override.is_hydra_override():
        section, *rest = group.split(".")
        if section not in kinds(Config) and (meant := suggest_keys(group)):
            raise FadeoutError(f"unknown key {group!r}: it is {' or '.join(meant)} here")
        kind, _ = lookup(kinds(Config), section, "key")
        if rest and section in sections_of(Config) and not _takes_new_keys(section):
            lookup(kinds(kind), rest[0], f"key of {section}")


def _allow_new_key(override: Override, text: str) -> str:
    """An override whose key the schema knows, so that it sets a key which is not there as well."""
    section, *rest = override.key_or_group.split(".")
    value = override.value()
    if section in ("name", "outputs") and not rest and isinstance(value, int | float):
        key, _, word = text.partition("=")
        return f"{key}='{word}'"
    known = len(rest) == 1 and _takes_new_keys(section)
    if section in ("axes", "figure"):
        known = bool(rest) or isinstance(value, dict)
    return f"++{text}" if known and override.type is OverrideType.CHANGE else text


def _takes_new_keys(section: str) -> bool:
    """Returns whether a section takes keys that not every entry's YAML has; whether the chosen
    entry has them is seen when the run is resolved."""
    return section in sections_of(Config) and issubclass(kinds(Config)[section][0], Choice)


def expand_sweep(loader: Any, params: Mapping[str, Any], arguments: Sequence[str]) -> list[list]:
    """The overrides of every job of a multirun, as Hydra's basic sweeper splits them; a study that
    is swept over brings its own sweep.

    Args:
      params: `hydra.sweeper.params` of the config.
      arguments: of the command line.

    Raises:
      FadeoutError: nothing to run, more than `registry.MAX_RUNS` jobs, or a sweep that has no end.
    """
    parser = OverridesParser.create(config_loader=loader)
    parse = partial(new_keys_allowed, parser)
    asked = parse(arguments)
    swept = [o for o in asked if o.key_or_group == "experiment" and o.is_sweep_override()]
    if not swept:
        return _split_product(parse([f"{key}={value}" for key, value in params.items()]) + asked)
    others = [str(o.input_line) for o in asked if o is not swept[-1]]
    jobs: list[list] = []
    for study in _matching_studies(loader, swept[-1]):
        chosen = f"+experiment={study}"
        master = loader.load_configuration("config", [chosen], RunMode.MULTIRUN)
        own = [f"{key}={value}" for key, value in master.hydra.sweeper.params.items()]
        jobs += _split_product(parse([*own, chosen, *others]))
    return jobs


def new_keys_allowed(parser: OverridesParser, texts: Sequence[str]) -> list[Override]:
    """Overrides, in which keys that only some options have need no plus."""
    overrides = parser.parse_overrides(list(texts))
    return parser.parse_overrides([_allow_new_key(o, str(o.input_line)) for o in overrides])


def typed(override: Override) -> str:
    """An override as somebody typed it, without the plus that was added."""
    return str(override.input_line).lstrip("+")


def override_value_texts(override: Override) -> list[str]:
    """The values of a choice or a range, as texts for a command line."""
    return list(_swept_values(override)) if _count_values(override) else []


def _matching_studies(loader: Any, override: Override) -> list[str]:
    """The studies that a sweep over them names; a pattern is matched with folders and all."""
    value = override.value()
    if not isinstance(value, Glob):
        return [str(name) for name in override.sweep_string_iterator()]

    def below(group: str) -> list[str]:
        names = loader.get_group_options(group)
        inner = loader.get_group_options(group, results_filter=ObjectType.GROUP)
        return names + [f"{name}/{found}" for name in inner for found in below(f"{group}/{name}")]

    return value.filter(below("experiment"))


def _split_product(overrides: Sequence[Override]) -> list[list[str]]:
    """The product of all values; of overrides of one key the last counts."""
    values: dict[tuple, Any] = {}
    counts: dict[tuple, int] = {}
    for override in overrides:
        key, text = (override.key_or_group, override.package), override.get_key_element()
        counts[key] = _count_values(override)
        if not override.is_sweep_override():
            values[key] = [f"{text}={override.get_value_element_as_str()}"]
        else:
            words = _swept_values(override) if counts[key] else iter(())
            values[key] = map(f"{text}={{}}".format, words)
    empty = [key for (key, _), number in counts.items() if not number]
    if empty:
        raise FadeoutError(f"nothing to train: the sweep over {empty[0]} has no values")
    total = math.prod(counts.values())
    if total > MAX_RUNS:
        raise FadeoutError(
            f"the sweep makes {total:,} jobs, more than {MAX_RUNS:,}: give fewer values"
        )
    return [list(job) for job in itertools.product(*values.values())]


def _swept_values(override: Override) -> Iterator[str]:
    """The values of a sweep, as Hydra writes them; those of a range as a person would."""
    value = override.value()
    if not isinstance(value, RangeSweep):
        yield from override.sweep_string_iterator()
        return
    assert value.start is not None
    assert value.stop is not None
    numbers = decimal_range(value.start, value.stop, value.step)
    if value.shuffle:
        random.shuffle(numbers)
    yield from map(str, numbers)


def _count_values(override: Override) -> int:
    """How many values a sweep has, without making them."""
    value = override.value()
    if override.is_interval_sweep():
        raise FadeoutError(
            f"{typed(override)} has no end: intervals are of a sweeper that searches, "
            "hydra/sweeper=fadeout_optuna; here give a list or a range"
        )
    if isinstance(value, RangeSweep):
        if not value.step:
            raise FadeoutError(f"{typed(override)}: a range needs a step that is not 0")
        start, stop, step = (decimal.Decimal(str(x)) for x in (value.start, value.stop, value.step))
        return max(0, math.ceil((stop - start) / step))  # without making them
    if isinstance(value, Glob):
        return sum(1 for _ in override.sweep_iterator())
    return len(value.list) if isinstance(value, ChoiceSweep) else 1


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
    def parse(text: str) -> _Setting:
        override = parser.parse_override(text)
        path, value = override.key_or_group.split("."), override.value()
        group = _chooses_group(loader, override)
        return _Setting(override, group, text in shared, _only_sets_values(override), path, value)

    with contextlib.suppress(OmegaConfBaseException):  # of a name that needs the job
        _ = master.name  # the same time for all jobs: resolved once, and copied with Hydra's cache
    of_each = _ASKS_HYDRA in str(OmegaConf.to_container(without_hydra(master), resolve=False))
    shared = set(jobs[0]).intersection(*jobs[1:]) if jobs else set()
    bases: dict[tuple[str, ...], _ComposedBase] = {}
    configs = []
    reasons: Counter[str] = Counter()
    for number, job in enumerate(jobs):
        try:
            settings = [parse(text) for text in job]
            composed = tuple(text for text, s in zip(job, settings, strict=True) if s.composed)
            if of_each or any(_ASKS_HYDRA in text for text in job):
                configs.append(read_config(_compose_whole(loader, master, job, number)))
                continue
            if composed not in bases:
                bases[composed] = _ComposedBase(
                    loader, loader.load_sweep_config(master, list(composed))
                )
            values = [setting for setting in settings if not setting.composed]
            configs.append(bases[composed].with_values(values))
        except (FadeoutError, HydraException, OmegaConfBaseException) as error:
            reasons[first_lines(error)] += 1
    raise_grouped(reasons, "jobs are not valid")
    return configs


class _Setting(NamedTuple):
    """An override of a job, looked at once for all jobs that have it.

    Attributes:
      of_group: whether it chooses an option of a config group.
      shared: whether all jobs have it.
      only_sets: whether it sets a value of the run, and nothing else.
    """

    override: Override
    of_group: bool
    shared: bool
    only_sets: bool
    path: list[str]
    value: Any

    @property
    def composed(self) -> bool:
        """Returns whether Hydra composes it; else its value is set on what is composed."""
        return self.of_group or self.shared


_ASKS_HYDRA = "${hydra:"
"""A value that asks for Hydra's own config, which only a job composed in full has."""


def _compose_whole(loader: Any, master: DictConfig, job: Sequence[str], number: int) -> DictConfig:
    """A job's config as Hydra's own launcher composes it, which takes 50 ms."""
    config = loader.load_sweep_config(master, list(job))
    with open_dict(config):
        config.hydra.job.id = config.hydra.job.num = number
    HydraConfig.instance().set_config(config)
    return config


def without_hydra(config: DictConfig) -> DictConfig:
    """The config of the application alone."""
    config = copy.deepcopy(config)
    with open_dict(config):
        del config["hydra"]
    return config


def _chooses_group(loader: Any, override: Override) -> bool:
    """Returns whether an override chooses an option of a config group, by Hydra's own rule."""
    if override.is_hydra_override():
        return True
    is_group = loader.repository.group_exists(override.key_or_group)
    return is_group and not isinstance(override.value(), dict)


class _ComposedBase:
    """A composed config, on which the values of many jobs are set."""

    def __init__(self, loader: Any, config: DictConfig):
        self.loader = loader
        self.config = config
        raw = OmegaConf.to_container(config, resolve=False)
        raw.pop("hydra")
        raw["name"] = re.sub(r"\$\{now:[^{}]*\}", "", str(raw["name"]))  # the same for every job
        self.data = None if _has_interpolation(raw) else _to_container(config)

    def with_values(self, settings: Sequence[_Setting]) -> Config:
        if self.data is not None and all(setting.only_sets for setting in settings):
            data = {k: dict(v) if isinstance(v, dict) else v for k, v in self.data.items()}
            if all(_set_existing(data, setting.path, setting.value) for setting in settings):
                return Config.from_dict(_check_complete(data))
        config = copy.deepcopy(self.config)
        self.loader._apply_overrides_to_config([s.override for s in settings], config)
        return read_config(config)


def _set_existing(data: dict[str, Any], path: list[str], value: Any) -> bool:
    """Sets a value that is there already; False where it is not."""
    *sections, key = path
    for section in sections:
        data = data.get(section, {})
        if not isinstance(data, dict):
            return False
    known = key in data or (len(sections) == 1 and _takes_new_keys(sections[0]))
    if not known or isinstance(data.get(key), dict):
        return False
    data[key] = value
    return True


def _only_sets_values(override: Override) -> bool:
    """Returns whether an override sets a value of the run, and neither adds, deletes nor refers."""
    if override.key_or_group == "outputs" or override.is_add() or override.is_delete():
        return False
    return not isinstance(override.value(), dict) and not _has_interpolation(override.value())


def _is_change(override: Override) -> bool:
    return not (override.is_add() or override.is_force_add() or override.is_delete())


def _has_interpolation(value: Any) -> bool:
    """Returns whether a value refers to others by an interpolation."""
    if isinstance(value, dict):
        return any(map(_has_interpolation, value.values()))
    if isinstance(value, list):
        return any(map(_has_interpolation, value))
    return isinstance(value, str) and "${" in value
