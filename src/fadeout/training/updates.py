"""A step of the optimiser, one layer after another.

Whatever is shaped as the model (parameters, gradients, moments, paths) is a tree with an `MLP` in
it; of one of its parts with `Neuron`s, and of the hidden layers with stacks of them. What is none,
as a count of steps, all layers share.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from fadeout.networks.lanes import per_lane
from fadeout.networks.model import MLP, Neuron
from fadeout.networks.norms import norm
from fadeout.networks.optimizers import apply_updates
from fadeout.networks.stacks import Count, Place, masked, take


class Trained(NamedTuple):
    """What a step changes, with the run last: of a network, one of its parts or one layer.

    Attributes:
      optimizer: its state.
      last_update, length: of the parameters' paths: the last step, and the summed norms of all;
        None where no probe asks.
    """

    model: Any
    optimizer: Any
    last_update: Any
    length: Any


def start(model: MLP, optimizer: Any, paths: bool) -> Trained:
    """Before the first step.

    Args:
      paths: whether they are kept.
    """
    if not paths:
        return Trained(model, optimizer, None, None)
    still = jax.tree.map(jnp.zeros_like, model)
    return Trained(model, optimizer, still, all_norms(still))


def update_layers(
    change: Callable, hyperparameters: dict, gradients: MLP, before: Trained, count: Count
) -> Trained:
    """One step of an optimiser that works element by element.

    Args:
      change: of hyperparameters, gradients, state and parameters, gives updates and state.
      count: how many hidden layers but the first there are.
    """

    def step(gradients, own: Trained, factor=1, place=-1) -> Trained:
        # not under `vmap`, for which XLA would keep the moments with the lanes first
        updates, state = change(hyperparameters, gradients, own.optimizer, own.model)
        updates = jax.tree.map(lambda u: count.where_there(place, factor * u, 0), updates)
        return Trained(apply_updates(own.model, updates), state, *walked(own, updates, norms_in))

    def layer(place, stack: Trained) -> Trained:
        """Parameters first, and the optimiser's state from a place that waits for them: XLA copies
        a whole stack where one kernel reads what another writes in place."""

        def stepped(place) -> Trained:
            own = step(gradients.hidden.at(place), layer_at(stack, place), place=place)
            return set_layer(stack, place, own)

        new = stepped(place)
        again = stepped(place + nothing_after(new.model, place, count.most))
        return new._replace(optimizer=again.optimizer)

    first = step(gradients.first, part(before, "first"))
    hidden = lax.fori_loop(0, count.most, layer, part(before, "hidden"))
    factor = hyperparameters["readout_factor"]
    readout = step(gradients.readout, part(before, "readout"), factor)
    return modules(MLP, lambda _, *parts: MLP(*parts), before, first, hidden, readout)


def nothing_after(model: Neuron, place: Place, count: Place) -> Int[Array, ""]:
    """0, because no count is below 0; but XLA does not know it before the layer in this place is
    written."""
    written = [take(a, place).ravel()[0] > 0 for a in jax.tree.leaves(model)]
    return ((count < 0) & functools.reduce(jnp.logical_and, written)).astype(int)


def update_all(
    change: Callable, hyperparameters: dict, gradients: MLP, before: Trained, count: Count
) -> Trained:
    """One step of any optimiser; empty places of the stack stay as they are."""
    updates, state = per_lane(change)(hyperparameters, gradients, before.optimizer, before.model)
    factor = hyperparameters["readout_factor"]
    updates = MLP(
        updates.first,
        masked(updates.hidden, count.each),
        jax.tree.map(lambda update: factor * update, updates.readout),
    )
    return Trained(apply_updates(before.model, updates), state, *walked(before, updates, all_norms))


def kernel_updates(
    change: Callable, hyperparameters: dict, gradients: MLP, before: Trained, elementwise: bool
) -> Callable:
    """What the next step will add to kernels: a function of a part's name and, of the hidden
    layers, a place.

    Args:
      change: of one network; or of all lanes, as `per_lane` makes it.
    """

    def update(name: str, place: Place | None) -> Float[Array, "fan_in fan_out *run"]:
        if elementwise:
            own, gradient = part(before, name), getattr(gradients, name)
            if place is not None:
                own, gradient = layer_at(own, place), gradient.at(place)
            layer, _ = change(hyperparameters, gradient, own.optimizer, own.model)
        else:
            layer = getattr(updates, name)
            layer = layer if place is None else layer.at(place)
        return layer.kernel[...] * (hyperparameters["readout_factor"] if name == "readout" else 1)

    if not elementwise:
        updates, _ = change(hyperparameters, gradients, before.optimizer, before.model)
    return update


def modules(kind: type, function: Callable, tree, *others):
    """A function of all modules of a kind in a tree, and of what stands there in others; what is
    none is as in the first of the others, or else as it was."""

    def inner(node, *rest):
        if isinstance(node, kind):
            return function(node, *rest)
        return rest[0] if rest else node

    return jax.tree.map(inner, tree, *others, is_leaf=lambda node: isinstance(node, kind))


def part(network: Trained, name: str) -> Trained:
    return modules(MLP, lambda own: getattr(own, name), network)


def layer_at(stack: Trained, place) -> Trained:
    return modules(Neuron, lambda neurons: neurons.at(place), stack)


def set_layer(stack: Trained, place, layer: Trained) -> Trained:
    """The stack with another layer in this place; what all layers share stays as it is."""
    return modules(Neuron, lambda neurons, _, new: neurons.set(place, new), stack, stack, layer)


def walked(before: Trained, updates, measure: Callable) -> tuple:
    """The last update and the lengths of the paths after one more step, which `measure` gives."""
    if before.length is None:
        return None, None
    return updates, jax.tree.map(jnp.add, before.length, measure(updates))


def norms_in(neuron: Neuron) -> Neuron:
    """Of a layer's kernel and bias."""
    return jax.tree.map(per_lane(norm), neuron)


def all_norms(network: MLP) -> MLP:
    """Of every layer's kernel and bias."""
    hidden = jax.tree.map(jax.vmap(per_lane(norm)), network.hidden)
    return MLP(norms_in(network.first), hidden, norms_in(network.readout))
