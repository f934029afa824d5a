"""What a run means: its defaults written out, its identity, and what cannot be trained."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from fadeout import theory
from fadeout.config import Activation, Init, Run
from fadeout.networks.activations import (
    ACTIVATIONS,
    SURROGATES,
    bind_static,
    is_by_layer,
    layers_of_name,
    name_of_layers,
)
from fadeout.networks.initializers import FROM_DATA, FROM_FILE, OWN_BIASES
from fadeout.networks.probes import PROBES, get_probe
from fadeout.networks.tasks import classes_of
from fadeout.networks.weight_files import read_weights
from fadeout.registry import TABLES, FadeoutError, format_value, is_builtin, lookup
from fadeout.schema import fill_options
from fadeout.training.digests import GROUPS, sources_of


@functools.lru_cache(maxsize=65536)
def _resolve_section(entry: Callable, group: str, section: Any) -> Any:
    return fill_options(section, entry, group)


@functools.lru_cache(maxsize=1024)
def _probes_in_order(probes: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    """The probes in the table's order, a user's after them: in which they are asked for changes no
    number."""
    for probe in probes:
        get_probe(probe)
    if len(set(probes)) < len(probes):
        raise FadeoutError(f"a probe is named twice in probes=[{','.join(probes)}]")
    own = PROBES.user_entries()
    return tuple(sorted(probes, key=lambda p: (p in own, p if p in own else known.index(p))))


def resolve(run: Run) -> Run:
    """The run with the defaults of its activation, initialiser, task and optimiser written out, its
    probes in the table's order, and of what is a user's own the sources.

    Raises:
      FadeoutError: a name that does not exist, a parameter that the named thing does not take, a
        loss that does not fit the task, or a function that is not any more what it was.

    >>> resolve(Run(init=Init("normal"))).init.stddev
    0.01
    """
    lookup(SURROGATES, run.activation.surrogate, "activation.surrogate")
    found: dict[str, Any] = {"probes": _probes_in_order(run.probes, tuple(PROBES))}
    found["model"] = run.model.without_unused()
    by_layer = is_by_layer(run.activation.name)
    if by_layer:
        found["activation"] = _resolve_layers(run)
        by_layer = is_by_layer(found["activation"].name)
        run = dataclasses.replace(run, activation=found["activation"])
    for group in GROUPS:
        section = getattr(run, group)
        if by_layer and group == "activation":
            continue
        found[group] = _resolve_section(lookup(TABLES[group], section.name, group), group, section)
    classes = classes_of(run.task.name, dict(found["task"].options))
    _check_judgement(run, classes)
    _check_remedies(run)
    if run.init.name in OWN_BIASES and run.init.bias_variance:
        raise FadeoutError(
            f"init={run.init.name} has biases of its own: leave init.bias_variance out"
        )
    if run.init.name in FROM_FILE:
        weights = read_weights(found["init"].npz)
        if run.model.depth != (depth := len(weights.kernels) - 1):
            raise FadeoutError(f"{weights.name} has {depth} hidden layers: set model.depth={depth}")
    if by_layer and (run.init.gain is None or run.init.name in ("critical", *FROM_DATA)):
        raise FadeoutError(
            f"activation={run.activation.name}: init.gain=auto, init=critical and init=lsuv follow "
            "from one activation; give numbers"
        )
    if run.init.gain is None:
        entry = lookup(ACTIVATIONS, run.activation.name, "activation")
        gain = _gain_of(found["activation"], _theory_function(found["activation"], entry))
        found["init"] = dataclasses.replace(found["init"], gain=gain)
    if run.init.name == "critical" and "weight_variance" not in dict(run.init.options):
        entry = lookup(ACTIVATIONS, run.activation.name, "activation")
        found["init"] = _critical_section(
            found["init"], found["activation"], _theory_function(found["activation"], entry)
        )
    found["sources"] = sources_of(run.replace_unchecked(**found))
    if run.sources and run.sources != found["sources"]:
        changed = {s.rpartition(" ")[0] for s in {*run.sources} ^ {*found["sources"]}}
        raise FadeoutError(
            f"{' and '.join(sorted(changed))} is not what it was when this run was made: make the "
            "run again"
        )
    if all(value is getattr(run, name) or value == () == getattr(run, name)
           for name, value in found.items()):  # fmt: skip
        return run
    return dataclasses.replace(run, **found)


def _resolve_layers(run: Run) -> Activation:
    """An activation for each layer, under its one name.

    Raises:
      FadeoutError: there are not as many as hidden layers.
    """
    layers = layers_of_name(run.activation.name)
    if run.activation.options:
        raise FadeoutError(f"activation={run.activation.name} takes no parameters")
    if len(layers) != run.model.depth:
        raise FadeoutError(
            f"activation={run.activation.name} is of {len(layers)} hidden layers, and model.depth "
            f"is {run.model.depth}"
        )
    return dataclasses.replace(run.activation, name=name_of_layers(layers))


def _check_judgement(run: Run, classes: int) -> None:
    """Refuses what does not fit together of task, output, loss and probes.

    Raises:
      FadeoutError
    """
    entropy = run.training.loss_function == "cross_entropy"
    squared = "set training.loss_function=squared_error"
    if not classes and entropy:
        raise FadeoutError(
            f"task={run.task.name} has no classes (0, 1, ..., all of which occur), and "
            f"cross_entropy no lowest value without: {squared}"
        )
    if entropy and run.model.output != "linear":
        raise FadeoutError(
            f"cross_entropy takes weighted sums, and makes probabilities of them itself: leave "
            f"model.output={run.model.output} out, or {squared}"
        )
    if run.task.targets == "bipolar" and (classes != 2 or entropy):
        why = "cross_entropy takes targets 0 and 1" if classes == 2 else "there are not two classes"
        raise FadeoutError(f"task.targets=bipolar: {why}; {squared} with a task of two")
    kernels = [name for name in run.probes if name.startswith("ntk_")]
    if kernels and (classes > 2 or not run.model.bias):
        why = "of one output" if classes > 2 else "with biases"
        raise FadeoutError(f"{kernels[0]} is the kernel of a network {why}: leave it out of probes")
    if not run.model.bias and run.init.bias_variance:
        raise FadeoutError(
            f"init.bias_variance={run.init.bias_variance:g} needs biases: set model.bias=true"
        )


def _check_remedies(run: Run) -> None:
    """Refuses what cannot be measured, or drawn, of networks with remedies.

    Raises:
      FadeoutError
    """
    model = run.model
    if not model.residual and model.normalization == "none":
        return
    what = "a residual branch" if model.residual else f"{model.normalization} normalisation"
    if run.init.name in FROM_DATA:
        raise FadeoutError(f"init={run.init.name} scales plain layers, not those of {what}")
    for name in run.probes:
        if name.startswith("layer_"):
            raise FadeoutError(
                f"{name} is of layers phi(W h + b), and not of {what}: take jacobian_gain instead"
            )
        if name.startswith("jacobian_") and model.normalization == "batch":
            raise FadeoutError(
                f"{name} is of one example, and batch normalisation makes it depend on the others: "
                "leave it out of probes"
            )


def identity(run: Run) -> str:
    """Returns the identity under which a run's results are stored.

    Written-out defaults do not change it.

    Args:
      run: as it was asked for.

    Returns:
      16 hexadecimal digits, of all that determines the run's numbers.

    Raises:
      FadeoutError: the run cannot be trained.

    >>> identity(Run()) == identity(resolve(Run()))
    True
    """
    if not isinstance(run, Run):
        raise FadeoutError(f"identity takes a Run, not {format_value(run)}")
    return resolve(run).digest()


def _theory_function(activation: Activation, entry: Callable) -> Callable:
    """A function that theory may keep results of: a user's as the program that it is now."""
    own = bind_static(entry, activation.options)
    return own if is_builtin(entry) else theory.freeze(own)


@functools.lru_cache(maxsize=1024)
def _gain_of(activation: Activation, entry: Callable) -> float:
    """1 / sqrt(E phi(Z)^2), Z standard normal: with weights of variance 1 / fan_in, it keeps the
    preactivations at variance 1; sqrt(2) for relu (He 2015). Nine digits are kept.

    Raises:
      FadeoutError: there is none, as where phi is 0.
    """
    square = theory.moments(entry, 1.0).square
    if not (np.isfinite(square) and square > 0):
        raise FadeoutError(
            f"init.gain=auto: E phi^2 of {activation.name} is {square:g}; give a gain"
        )
    return float(f"{square**-0.5:.9g}")


@functools.lru_cache(maxsize=1024)
def _critical_section(init: Init, activation: Activation, entry: Callable) -> Init:
    """`init=critical` with its weight variance, which belongs to gain 1.

    Of several points on the edge the first with a signal (q > 0) is taken. Nine digits are kept,
    so that all machines find the same run.

    Raises:
      FadeoutError: the activation has no edge of chaos at this bias variance.
    """
    points = theory.critical(entry, init.bias_variance)
    if points:
        point = next((point for point in points if point.variance > 0), points[0])
        return dataclasses.replace(
            init, options=(("weight_variance", float(f"{point.weight_variance:.9g}")),)
        )
    weight_variance, bias_variance = theory.edge(entry)
    where = f"{activation.name} has no edge of chaos at init.bias_variance={init.bias_variance:g}"
    if not weight_variance.size:
        raise FadeoutError(f"{where}, nor at any other: use init=lsuv, which scales by the data")
    nearest = bias_variance[np.argmin(np.abs(bias_variance - init.bias_variance))]
    raise FadeoutError(f"{where}: the nearest is at init.bias_variance={nearest:.3g}")
