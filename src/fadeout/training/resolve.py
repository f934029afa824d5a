"""What a run means: its defaults written out, its identity, and what cannot be trained."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from fadeout import theory
from fadeout.config import Activation, Init, Run
from fadeout.networks.activations import ACTIVATIONS, SURROGATES
from fadeout.networks.initializers import INITIALIZERS
from fadeout.networks.optimizers import OPTIMIZERS
from fadeout.networks.probes import PROBES, get_probe
from fadeout.networks.tasks import TASKS, WITHOUT_CLASSES
from fadeout.registry import FadeoutError, complete, lookup
from fadeout.schema import options, traced

ENTRIES = {
    "activation": ACTIVATIONS,
    "init": INITIALIZERS,
    "task": TASKS,
    "optimizer": OPTIMIZERS,
}


@functools.lru_cache(maxsize=65536)
def resolve_section(entry: Callable, group: str, section: Any) -> Any:
    given = options(section)
    filled = complete(entry, given, group, section.name)
    return section if filled == given else dataclasses.replace(section, **filled)


@functools.lru_cache(maxsize=1024)
def in_order(probes: tuple[str, ...], table: tuple[str, ...]) -> tuple[str, ...]:
    """The probes in the table's order: in which they are asked for changes no number."""
    for probe in probes:
        get_probe(probe)
    if len(set(probes)) < len(probes):
        raise FadeoutError(f"a probe is named twice in probes=[{','.join(probes)}]")
    return tuple(sorted(probes, key=table.index))


def resolve(run: Run) -> Run:
    """The run with the defaults of its activation, initialiser, task and optimiser written out, and
    its probes in the table's order.

    Raises:
      FadeoutError: a name that does not exist, a parameter that the named thing does not take, or a
        loss that does not fit the task.

    >>> resolve(Run(init=Init("normal"))).init.stddev
    0.01
    """
    lookup(SURROGATES, run.activation.surrogate, "activation.surrogate")
    found: dict[str, Any] = {"probes": in_order(run.probes, tuple(PROBES))}
    for group, table in ENTRIES.items():
        section = getattr(run, group)
        found[group] = resolve_section(lookup(table, section.name, group), group, section)
    if run.task.name in WITHOUT_CLASSES and run.training.loss_function == "cross_entropy":
        raise FadeoutError(
            f"task={run.task.name} has no classes, and cross_entropy no lowest value there: set "
            "training.loss_function=squared_error"
        )
    if run.init.name == "critical" and run.init.weight_variance is None:
        entry = lookup(ACTIVATIONS, run.activation.name, "activation")
        found["init"] = on_the_edge(found["init"], found["activation"], entry)
    if all(value is getattr(run, name) for name, value in found.items()):
        return run
    return dataclasses.replace(run, **found)


def identity(run: Run) -> str:
    """The 16 hexadecimal digits by which a run's results are found, whether its defaults are
    written out or not.

    >>> identity(Run()) == identity(resolve(Run()))
    True
    """
    return resolve(run).digest()


@functools.lru_cache(maxsize=1024)
def on_the_edge(init: Init, activation: Activation, entry: Callable) -> Init:
    """`init=critical` with its weight variance, which belongs to gain 1.

    Of several points on the edge the first with a signal (q > 0) is taken. Nine digits are kept,
    so that all machines find the same run.

    Raises:
      FadeoutError: the activation has no edge of chaos at this bias variance.
    """
    chosen = functools.partial(entry, **traced(activation))  # type: ignore[arg-type]
    points = theory.critical(chosen, init.bias_variance)
    if points:
        point = next((point for point in points if point.variance > 0), points[0])
        return dataclasses.replace(init, weight_variance=float(f"{point.weight_variance:.9g}"))
    weight_variance, bias_variance = theory.edge(chosen)
    where = f"{activation.name} has no edge of chaos at init.bias_variance={init.bias_variance:g}"
    if not weight_variance.size:
        raise FadeoutError(f"{where}, nor at any other: use init=lsuv, which scales by the data")
    nearest = bias_variance[np.argmin(np.abs(bias_variance - init.bias_variance))]
    raise FadeoutError(f"{where}: the nearest is at init.bias_variance={nearest:.3g}")
