"""A search by Optuna: its trials are asked in batches, trained side by side, and stored."""

import math
import shlex
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

from fadeout.cli.compose import new_keys_allowed, override_value_texts, typed
from fadeout.cli.config import Config
from fadeout.registry import FadeoutError, format_value, lookup
from fadeout.schema import kinds, sections_of

_LEAST_OPTUNA = 4


def optuna() -> Any:
    """The library.

    Raises:
      FadeoutError: it is missing, or too old.
    """
    try:
        import optuna
    except ImportError as error:
        raise FadeoutError(
            "hydra/sweeper=fadeout_optuna needs Optuna 4 or newer: pip install 'fadeout[optuna]'"
        ) from error
    if int(optuna.__version__.split(".")[0]) < _LEAST_OPTUNA:
        raise FadeoutError(
            f"hydra/sweeper=fadeout_optuna needs Optuna 4 or newer, and this is "
            f"{optuna.__version__}: pip install --upgrade optuna"
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class Space:
    """The space that is searched, and what all trials share.

    Args:
      loader: Hydra's config loader.
      arguments: of the command line, `hydra.sweeper.params` before them.

    Attributes:
      seeds: of each trial, where the command line sweeps over them: they are not searched.

    Raises:
      FadeoutError: nothing is searched, or a space of one point.
    """

    def __init__(self, loader: Any, arguments: Sequence[str]):
        parser = OverridesParser.create(config_loader=loader)
        overrides = new_keys_allowed(parser, arguments)
        last = {(o.key_or_group, o.package): o for o in overrides}  # of one key the last counts
        self.fixed = [o for o in last.values() if not o.is_sweep_override()]
        swept = [o for o in last.values() if o.is_sweep_override()]
        seeds = [o for o in swept if o.key_or_group == "seed"]
        self.seeds = [text for o in seeds for text in _seeds_of(o)]
        self.distributions = {
            str(o.get_key_element()): _distribution(o) for o in swept if o not in seeds
        }
        if not self.distributions:
            raise FadeoutError(
                "nothing to search: give a key an interval(...), a choice(...) or a range(...), "
                "as in 'optimizer.learning_rate=tag(log,interval(1e-4,1))'"
            )
        if all(distribution.single() for distribution in self.distributions.values()):
            raise FadeoutError("nothing to search: the space has one point")

    def overrides(self, values: dict[str, Any]) -> list[str]:
        """The command line of a trial."""
        fixed = [f"{o.get_key_element()}={o.get_value_element_as_str()}" for o in self.fixed]
        return [*fixed, *(f"{key}={format_number(value)}" for key, value in values.items())]

    def picture(self, by: str, jobs: Sequence[Sequence[str]]) -> list[str]:
        """Asks for the quantity over the first number that was searched, where no figure is asked
        for."""
        numbers = [
            key
            for key, own in self.distributions.items()
            if hasattr(own, "low")
            and len({word for job in jobs for word in job if word.startswith(f"{key}=")}) > 1
        ]
        if not numbers or any(str(o.key_or_group).startswith("figure") for o in self.fixed):
            return []
        label = numbers[0].rpartition(".")[2]
        return [f"++figure.quantity='{by}'", f"++figure.x={label}"]

    def names(self, key: str) -> bool:
        """Returns whether a key is set or searched."""
        given = [str(o.key_or_group) for o in self.fixed]
        return key in [*given, *(text.lstrip("+") for text in self.distributions)]


def format_number(value: Any) -> str:
    """A value as a person would type it; twelve digits of a float are enough to repeat it.

    >>> format_number(0.1 + 0.2), format_number(3), format_number("relu")
    ('0.3', '3', 'relu')
    """
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _seeds_of(override: Override) -> list[str]:
    """The seeds of a choice or a range."""
    if isinstance(override.value(), IntervalSweep):
        raise FadeoutError(f"{typed(override)}: seeds are not searched: give a range or a list")
    return override_value_texts(override)


def _distribution(override: Override) -> Any:
    """The distribution that a word of Hydra's grammar means."""
    own = optuna().distributions
    value = override.value()
    log = "log" in getattr(value, "tags", ())
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        if not low < high or (log and low <= 0):
            least = " above 0" if log else ""
            raise FadeoutError(
                f"{typed(override)}: an interval goes from a number{least} to a higher one"
            )
        if isinstance(low, int) or _takes_whole(str(override.key_or_group)):
            low, high = math.ceil(low), math.floor(high)
            if low >= high:
                raise FadeoutError(f"{typed(override)} has no two whole numbers")
            return own.IntDistribution(low, high, log=log)
        return own.FloatDistribution(float(low), float(high), log=log)
    if isinstance(value, ChoiceSweep | RangeSweep):
        words = override_value_texts(override)
        if not words:
            raise FadeoutError(f"{typed(override)} has no values")
        return own.CategoricalDistribution(words)
    raise FadeoutError(f"{typed(override)}: give an interval, a choice or a range to search")


def _takes_whole(path: str) -> bool:
    """Returns whether a key of the config takes whole numbers: Hydra's intervals are of real ones,
    and int(interval(1,8)) says so of an option."""
    section, _, key = path.partition(".")
    if section not in sections_of(Config):
        return False
    known = kinds(kinds(Config)[section][0])
    return key in known and int in (known[key][0], *getattr(known[key][0], "__args__", ()))


def search_by(
    loader: Any, arguments: Sequence[str], launcher: Any, n_trials: int, batch: int, seeds: int,
    by: Any, sampler_seed: int,
) -> list:  # fmt: skip
    """Searches as `hydra/sweeper=fadeout_optuna` is asked to, and draws all trials in the end.

    Args:
      loader: Hydra's config loader.
      launcher: `hydra_plugins.fadeout_lanes.LanesLauncher`.

    Returns:
      The jobs of the last launch, which knows all trials.

    Raises:
      FadeoutError: before any compute, where nothing can be searched.
    """
    from fadeout.analysis.ranking import is_higher_better

    for name, number in (("n_trials", n_trials), ("batch", batch), ("seeds", seeds)):
        if not isinstance(number, int) or number < 1:
            raise FadeoutError(f"hydra.sweeper.{name} must be 1 or more, not {number}")
    quantities = _quantities(by)
    if not hasattr(launcher, "launch_with"):
        raise FadeoutError(
            "hydra/sweeper=fadeout_optuna trains whole batches: hydra/launcher=lanes"
        )
    space = Space(loader, arguments)
    for name in quantities:
        if name.startswith("validation") and not space.names("training.held_out"):
            raise FadeoutError(f"hydra.sweeper.by={name} needs training.held_out")

    def train(jobs: list[list[str]]) -> list[tuple[float, ...]]:
        told = launcher.launch_with(jobs, {"by": quantities, "quiet": True})
        values = [job.return_value for job in told]
        return [(value,) for value in values] if len(quantities) == 1 else values

    higher = [is_higher_better(name) for name in quantities]
    found = search(space, n_trials, batch, seeds, sampler_seed, higher, train, print)
    _print_best(found, quantities)
    picture = space.picture(",".join(quantities), found.jobs)
    return [launcher.launch_with([[*job, *picture] for job in found.jobs], {"by": quantities})]


def _quantities(by: Any) -> tuple[str, ...]:
    """Checks what is searched for."""
    from fadeout.analysis.ranking import KNOWN

    quantities = (by,) if isinstance(by, str) else tuple(by) if hasattr(by, "__iter__") else ()
    if not quantities or len(set(quantities)) < len(quantities):
        raise FadeoutError(f"hydra.sweeper.by={format_value(by)}: give a quantity, or several")
    for name in quantities:
        lookup(dict.fromkeys(KNOWN), str(name), "hydra.sweeper.by")
        if name in ("solved_step", "reached_step"):
            raise FadeoutError(
                f"hydra.sweeper.by={name} is of the runs that get there alone: take solved, or loss"
            )
    return quantities


def _print_best(found: "Search", quantities: Sequence[str]) -> None:
    """Prints the best trials, each with its command: of several quantities those that no other is
    better than in all."""
    named = ", ".join(name.replace("_", " ") for name in quantities)
    finite = [(job, value) for job, value in found.best if all(map(math.isfinite, value))]
    if not finite:
        print(f"no trial of {len(found.jobs)} ended with a finite {named}", flush=True)
    elif len(quantities) > 1:
        print(f"{len(finite)} of {len(found.jobs)} trials that none beats in {named}:")
    for job, value in finite:
        told = ", ".join(
            f"{name.replace('_', ' ')} {own:.4g}"
            for name, own in zip(quantities, value, strict=True)
        )
        of = f"best {told}, of {len(found.jobs)} trials:" if len(quantities) == 1 else f"{told}:"
        print(of)
        words = " ".join(shlex.quote(word.lstrip("+")) for word in job)
        print(f"  fadeout train {words}", flush=True)


class Search(NamedTuple):
    """The result of a search.

    Attributes:
      best: overrides and values of the trials than which none is better in all quantities.
      jobs: overrides of all trials, each once.
    """

    best: list[tuple[list[str], tuple[float, ...]]]
    jobs: list[list[str]]


def search(
    space: Space, n_trials: int, batch: int, seeds: int, sampler_seed: int,
    higher: Sequence[bool], train: Callable[[list[list[str]]], Sequence[tuple[float, ...]]],
    tell: Callable[[str], None],
) -> Search:  # fmt: skip
    """Asks for trials in batches, until there are enough.

    The sampler's seed decides what is asked, so that the same command asks the same again, and goes
    on from what is stored.

    Args:
      n_trials: in all.
      batch: asked at once. Tree-structured Parzen estimators need more trials the fewer results
        they know: of two numbers, 33 one at a time, 41 by batches of 8, 46 of 16, 62 of 32.
      seeds: of each trial, whose mean is told; where neither `seed` nor `axes.seed` is given.
      higher: of each quantity, whether larger values are better.
      train: trains jobs and gives the values of each.
      tell: is told how the search stands.
    """
    library = optuna()
    sampler = library.samplers.TPESampler(seed=sampler_seed, n_startup_trials=min(10, batch))
    directions = ["maximize" if upwards else "minimize" for upwards in higher]
    study = library.create_study(sampler=sampler, directions=directions)
    shared = []
    if space.seeds:
        shared = [f"++axes.seed=[{','.join(space.seeds)}]"]
    elif not (space.names("seed") or space.names("axes.seed")):
        shared = [f"++axes.seed=range:0:{seeds}"]
    known: dict[tuple[str, ...], tuple[float, ...]] = {}
    asked = 0
    while asked < n_trials:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trials = [study.ask(space.distributions) for _ in range(min(batch, n_trials - asked))]
        jobs = [(*space.overrides(trial.params), *shared) for trial in trials]
        new = [list(job) for job in dict.fromkeys(jobs) if job not in known]
        known |= dict(zip(map(tuple, new), train(new) if new else (), strict=True))
        for trial, job in zip(trials, jobs, strict=True):
            study.tell(trial, known[job])
        asked += len(trials)
        best = _best(known, higher)
        stands = (
            f"the best {best[0][1][0]:.4g}" if len(higher) == 1 else f"{len(best)} that none beats"
        )
        tell(f"{asked} of {n_trials} trials, {stands}")
    return Search(_best(known, higher), [list(job) for job in known])


def _best(
    known: dict[tuple[str, ...], tuple[float, ...]], higher: Sequence[bool]
) -> list[tuple[list[str], tuple[float, ...]]]:
    """The trials than which none is better: one of one quantity, a front of several, in order."""
    signs = np.where(higher, -1.0, 1.0)
    costs = np.array([signs * value for value in known.values()])
    costs[np.isnan(costs)] = np.inf
    trials = [(list(job), value) for job, value in known.items()]
    if len(signs) == 1:
        return [trials[int(costs[:, 0].argmin())]]
    no_worse = (costs[:, None] <= costs).all(-1)
    better = no_worse & (costs[:, None] < costs).any(-1)
    alone = [n for n in range(len(trials)) if not better[:, n].any()]
    first = {costs[n].tobytes(): n for n in reversed(alone)}  # of equal ones the first
    return [trials[n] for n in sorted(first.values(), key=lambda n: costs[n].tolist())]
