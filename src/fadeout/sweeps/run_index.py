"""Many runs looked at once, before any is trained."""

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np

from fadeout.config import Model, Run
from fadeout.networks.jaxprs import memoizing
from fadeout.registry import FadeoutError, raise_grouped
from fadeout.schema import default_values
from fadeout.training.compile_groups import CompileGroup, compile_group_of_resolved
from fadeout.training.resolve import resolve

T = TypeVar("T")


def _ignoring_seed(function: Callable[[Run], T]) -> Callable[[Run], T]:
    """The function of runs with the seed 0, remembered: most runs of a sweep differ in their seed
    alone."""
    remembered = lru_cache(maxsize=65536)(function)
    return lambda run: remembered(run.replace_unchecked(seed=0))


class RunIndex(NamedTuple):
    """The group and identity of many runs before any is trained, in twelve bytes a run.

    Attributes:
      runs: made when asked for, where they are a grid.
      groups: all that occur.
      group: the place in `groups` of each run's, [run].
      identity: of each run, as a 64-bit number, [run].
      traced: what was traced of a user's functions, so that they are the same functions throughout.
    """

    runs: Sequence[Run]
    groups: list[CompileGroup]
    group: np.ndarray
    identity: np.ndarray
    traced: dict

    def unique(self) -> np.ndarray:
        """The places of the runs, each identity once, in order."""
        return np.sort(np.unique(self.identity, return_index=True)[1])

    def take(self, places: np.ndarray) -> list[Run]:
        """The runs at these places, their defaults written out."""
        resolved = _ignoring_seed(resolve)
        runs = (self.runs[place] for place in places)
        with memoizing(self.traced):
            return [resolved(run).replace_unchecked(seed=run.seed) for run in runs]


def index_runs(runs: Sequence[Run]) -> RunIndex:
    """Resolves every run once, and indexes its compile group and identity.

    Raises:
      FadeoutError: runs that cannot be trained; all reasons at once, before any compute.
    """
    groups: dict[CompileGroup, int] = {}
    group, identity = array("i"), array("Q")
    reasons: Counter[str] = Counter()
    models: Counter[Model] = Counter()

    @_ignoring_seed
    def look(run: Run) -> tuple[Run, int]:
        run = resolve(run)
        return run, groups.setdefault(compile_group_of_resolved(run), len(groups))

    with memoizing({}) as traced:
        for run in runs:
            models[run.model] += 1
            try:
                like, number = look(run)
                group.append(number)
                identity.append(int(like.replace_unchecked(seed=run.seed).digest(), 16))
            except FadeoutError as error:
                reasons[str(error)] += 1
    raise_grouped(reasons + _idle_everywhere(models), "runs cannot be trained")
    found = np.array(group, np.int32), np.array(identity, np.uint64)
    return RunIndex(runs, list(groups), *found, traced)


def _idle_everywhere(models: Counter[Model]) -> Counter[str]:
    """The reasons to refuse a key of the model that says nothing in any run that sets it, as a
    scale of branches that are nowhere; beside others that have them, it compares."""
    reasons: Counter[str] = Counter()
    for key in ("residual_scale", "affine", "base_width"):
        usual = default_values(Model)[key]
        setting = {
            model: model.unused_keys().get(key) for model in models if getattr(model, key) != usual
        }
        if all(setting.values()):
            for model, why in setting.items():
                reasons[str(why)] += models[model]
    return reasons
