"""A step of the optimiser, one layer after another.

Whatever is shaped as the model (parameters, gradients, moments, paths) is a tree with an `MLP` in
it; of one of its parts with `Dense`s, and of the hidden layers with stacks of them. What is none,
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
from fadeout.networks.model import MLP, Dense
from fadeout.networks.norms import norm
from fadeout.networks.optimizers import apply_updates
from fadeout.networks.parametrization import StepFactors, scale_steps
from fadeout.networks.stacks import LayerCount, LayerIndex, mask_from, take_at


class TrainState(NamedTuple):
    """The parameters and the optimiser's state, with the run last; of a network, a part or a layer.

    Attributes:
      optimizer: its state.
      last_update, length: of the parameters' paths: the last step, and the summed norms of all;
        None where no probe asks.
    """

    model: Any
    optimizer: Any
    last_update: Any
    length: Any


def initial_train_state(model: MLP, optimizer: Any, paths: bool) -> TrainState:
    """Returns the state before the first step.

    Args:
      paths: whether they are kept.
    """
    if not paths:
        return TrainState(model, optimizer, None, None)
    still = jax.tree.map(jnp.zeros_like, model)
    return TrainState(model, optimizer, still, _network_norms(still))


def update_layers(
    change: Callable,
    hyperparameters: dict,
    gradients: MLP,
    before: TrainState,
    count: LayerCount,
    factors: StepFactors | None = None,
) -> TrainState:
    """Updates all layers, one after another, with an optimiser that works element by element.

    Args:
      change: of hyperparameters, gradients, state and parameters, gives updates and state.
      count: how many hidden layers but the first there are.
      factors: of the steps, where the parametrisation has some.
    """

    def step(part, gradients, own: TrainState, factor=1, place=-1) -> TrainState:
        # not under `vmap`, for which XLA would keep the moments with the lanes first
        updates, state = change(hyperparameters, gradients, own.optimizer, own.model)
        updates = _scaled(updates, factors, part)
        updates = jax.tree.map(lambda u: count.where_active(place, factor * u, 0), updates)
        return TrainState(
            apply_updates(own.model, updates),
            state,
            *_updated_paths(own, updates, _parameter_norms),
        )

    def layer(place, stack: TrainState) -> TrainState:
        """Parameters first, and the optimiser's state from a place that waits for them: XLA copies
        a whole stack where one kernel reads what another writes in place."""

        def stepped(place) -> TrainState:
            own = _layer_at(stack, place)
            own = step("hidden", gradients.hidden.at(place), own, place=place)
            return _set_layer(stack, place, own)

        new = stepped(place)
        again = stepped(place + _zero_after(new.model, place, count.most))
        return new._replace(optimizer=again.optimizer)

    first = step("first", gradients.first, _part_of(before, "first"))
    hidden = lax.fori_loop(0, count.most, layer, _part_of(before, "hidden"))
    factor = hyperparameters["readout_factor"]
    readout = step("readout", gradients.readout, _part_of(before, "readout"), factor)
    return _map_modules(MLP, lambda _, *parts: MLP(*parts), before, first, hidden, readout)


def _zero_after(model: Dense, place: LayerIndex, count: LayerIndex) -> Int[Array, ""]:
    """Returns 0, in a way that XLA can only know after the layer at this position is written."""
    written = [take_at(a, place).ravel()[0] > 0 for a in jax.tree.leaves(model)]
    return ((count < 0) & functools.reduce(jnp.logical_and, written)).astype(int)


def _scaled(updates: Any, factors: StepFactors | None, part: str) -> Any:
    return updates if factors is None else scale_steps(updates, getattr(factors, part))


def update_all(
    change: Callable,
    hyperparameters: dict,
    gradients: MLP,
    before: TrainState,
    count: LayerCount,
    factors: StepFactors | None = None,
) -> TrainState:
    """Updates all layers at once, with any optimiser. Padded layers stay as they are."""
    updates, state = per_lane(change)(hyperparameters, gradients, before.optimizer, before.model)
    factor = hyperparameters["readout_factor"]
    readout = _scaled(updates.readout, factors, "readout")
    updates = MLP(
        _scaled(updates.first, factors, "first"),
        mask_from(_scaled(updates.hidden, factors, "hidden"), count.each),
        jax.tree.map(lambda update: factor * update, readout),
    )
    return TrainState(
        apply_updates(before.model, updates),
        state,
        *_updated_paths(before, updates, _network_norms),
    )


def kernel_updates(
    change: Callable,
    hyperparameters: dict,
    gradients: MLP,
    before: TrainState,
    elementwise: bool,
    factors: StepFactors | None = None,
) -> Callable:
    """Previews the next update of kernels: returns a function of a part's name and, for hidden
    layers, a position.

    Args:
      change: of one network; or of all lanes, as `per_lane` makes it.
    """

    def update(name: str, place: LayerIndex | None) -> Float[Array, "fan_in fan_out *run"]:
        if elementwise:
            own, gradient = _part_of(before, name), getattr(gradients, name)
            if place is not None:
                own, gradient = _layer_at(own, place), gradient.at(place)
            layer, _ = change(hyperparameters, gradient, own.optimizer, own.model)
        else:
            layer = getattr(updates, name)
            layer = layer if place is None else layer.at(place)
        layer = _scaled(layer, factors, name)
        return layer.kernel[...] * (hyperparameters["readout_factor"] if name == "readout" else 1)

    if not elementwise:
        updates, _ = change(hyperparameters, gradients, before.optimizer, before.model)
    return update


def _map_modules(kind: type, function: Callable, tree, *others):
    """Maps a function over all modules of a kind in some trees.

    Leaves that belong to no module come from the first of the other trees, if there is one.
    """

    def inner(node, *rest):
        if isinstance(node, kind):
            return function(node, *rest)
        return rest[0] if rest else node

    return jax.tree.map(inner, tree, *others, is_leaf=lambda node: isinstance(node, kind))


def _part_of(network: TrainState, name: str) -> TrainState:
    return _map_modules(MLP, lambda own: getattr(own, name), network)


def _layer_at(stack: TrainState, place) -> TrainState:
    return _map_modules(Dense, lambda neurons: neurons.at(place), stack)


def _set_layer(stack: TrainState, place, layer: TrainState) -> TrainState:
    """Returns the stack with another layer at this position.

    Leaves that all layers share are unchanged.
    """
    return _map_modules(Dense, lambda neurons, _, new: neurons.set(place, new), stack, stack, layer)


def _updated_paths(before: TrainState, updates, measure: Callable) -> tuple:
    """Returns the last update and the path lengths after one more step, measured by `measure`."""
    if before.length is None:
        return None, None
    return updates, jax.tree.map(jnp.add, before.length, measure(updates))


def _parameter_norms(neuron: Dense) -> Dense:
    """Returns the norms of a layer's parameters."""
    return jax.tree.map(per_lane(norm), neuron)


def _network_norms(network: MLP) -> MLP:
    """Returns the norms of the parameters of every layer."""
    hidden = jax.tree.map(jax.vmap(per_lane(norm)), network.hidden)
    return MLP(_parameter_norms(network.first), hidden, _parameter_norms(network.readout))
