"""Applies the probes to all layers at one step."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fadeout.networks.layers import Layer, Layers, Path
from fadeout.networks.layouts import EXAMPLES_FIRST, Layout
from fadeout.networks.model import MLP, Signals
from fadeout.networks.probes import Probe
from fadeout.networks.remedies import PLAIN, Remedy
from fadeout.networks.stacks import LayerCount, mask_from, scan_active, take_at
from fadeout.training.updates import TrainState


class ProbeInput(NamedTuple):
    """Everything that probes can read at one recorded step, before the update; of one network, or
    with lanes last.

    Attributes:
      start: the network before the first step.
      delta: dL/d output.
      steepest_slope: the largest |phi'| of every hidden layer.
      remedy: what the network has besides neurons.
      layout: of the signals.
    """

    start: MLP
    trained: TrainState
    gradients: MLP
    signals: Signals
    inputs: Float[Array, "example feature *run"]
    delta: Float[Array, "example output *run"]
    steepest_slope: Float[Array, "depth *run"]
    remedy: Remedy = PLAIN
    layout: Layout = EXAMPLES_FIRST

    def part(self, name: str) -> Layer:
        """A part of the network, but for its update and what the signals show."""
        model, _, last_update, length = self.trained
        own, gradient = getattr(model, name), getattr(self.gradients, name)
        path = (self.start, last_update, length) if length is not None else ()
        return Layer(
            kernel=own.kernel[...],
            kernel_gradient=gradient.kernel[...],
            kernel_update=None,
            bias_gradient=gradient.bias[...],
            delta=None,
            below=None,
            path=Path(*(getattr(of, name).kernel[...] for of in path)) if path else None,  # type: ignore[arg-type]
            **{
                what: parameter[...]
                for what in ("gain", "shift", "factor")
                if (parameter := getattr(own, what)) is not None
            },
        )

    def output_gradients(self, count: LayerCount) -> tuple[Float[Array, "..."], ...]:
        """The gradient of each example's output by every parameter, as `Layers` has it."""
        model, examples = self.trained.model, self.inputs.shape[0]
        nothing = jax.tree.map(jnp.zeros_like, model)

        def of_one(one):
            return model.backward(
                self.inputs, one[:, None], count, self.signals, nothing, self.remedy, self.layout
            )[1]

        found = jax.vmap(of_one)(jnp.eye(examples, dtype=self.inputs.dtype))

        def flat(part, lead: int) -> Float[Array, "..."]:
            leaves = [leaf.reshape(*leaf.shape[:lead], -1) for leaf in jax.tree.leaves(part)]
            return jnp.concatenate(leaves, axis=-1)

        stack = jnp.swapaxes(flat(found.hidden, 2), 0, 1)
        return flat(found.first, 1), stack, flat(found.readout, 1)

    def layers(self, count: LayerCount) -> Layers:
        """All layers; the signals of the hidden stack are in the step's layout still."""
        activation, slope, delta, preactivation = self.signals
        low = high = None
        if preactivation is not None:
            low, high = preactivation[0], preactivation[1:]
        remedied = self.remedy != PLAIN
        steepest = self.steepest_slope
        return Layers(
            self.part("first")._replace(
                delta=delta[0], activation=activation[0], slope=slope[0],
                steepest_slope=steepest[0],
                preactivation=low,
            ).arranged(self.layout)._replace(below=self.inputs),
            self.part("hidden")._replace(
                delta=delta[1:], below=activation[:-1], activation=activation[1:], slope=slope[1:],
                steepest_slope=steepest[1:],
                preactivation=high,
            ),
            self.part("readout")
            ._replace(below=take_at(activation, count.most))
            .arranged(self.layout)
            ._replace(delta=self.delta),
            count,
            self.remedy if remedied else None,
            functools.partial(self.output_gradients, count) if remedied else None,
        )  # fmt: skip


def measure_layers(
    probes: dict[str, Probe],
    layers: Layers,
    update: Callable | None = None,
    each: Callable[[Callable], Callable] = lambda probe: probe,
    layout: Layout = EXAMPLES_FIRST,
) -> dict:
    """Every probe in every weight layer, [place], in the precision of the kernels; the readout has
    the last place, and NaN there of a probe that it lacks.

    Args:
      update: of a part's name, and of a place in the stack or None, gives the kernel's update;
        asked only for layers that are there. None where the layers have theirs.
      each: `per_lane`, where all arrays have the run as last axis; then no probe is of all layers.
        A layer is taken from its stack before it is mapped over the lanes: under `vmap`, XLA would
        gather each, with the lanes first, and the ten default probes cost as much as ten steps.
      layout: of the hidden stack's signals. They are arranged layer by layer, only where there is
        one.
    """
    recorded = functools.partial(jnp.asarray, dtype=layers.first.kernel.dtype)
    places = layers.hidden.kernel.shape[0]
    count = layers.layer_count
    first, hidden, readout = layers[:3]
    if update is not None:
        first = first._replace(kernel_update=update("first", None))
        readout = readout._replace(kernel_update=update("readout", None))

    def hidden_at(place) -> Layer:
        layer = take_at(hidden, place).arranged(layout)
        return layer if update is None else layer._replace(kernel_update=update("hidden", place))

    def of_one(layer: Layer, has_activation=True) -> dict:
        def rows(layer: Layer) -> dict:
            return {
                name: recorded(
                    probe.function(layer) if has_activation or probe.readout else jnp.nan
                )
                for name, probe in probes.items()
                if not probe.whole
            }

        return each(rows)(layer)

    def of_each(function: Callable, like=None):
        def step(_, place):
            return None, function(place)

        return scan_active(step, None, jnp.arange(places), count.most, like=like)[1]

    lowest = of_one(first)
    inner = of_each(lambda place: of_one(hidden_at(place)), lowest)
    highest = of_one(readout, False)
    rows = {
        name: jnp.concatenate([low[None], inner[name], highest[name][None]])
        for name, low in lowest.items()
    }
    if any(probe.whole for probe in probes.values()):
        stack = of_each(lambda place: hidden_at(place).kernel_update)
        whole_stack = hidden.arranged(layout, stacked=True)._replace(kernel_update=stack)
        hidden = mask_from(whole_stack, count.each)
        whole = layers._replace(first=first, hidden=hidden, readout=readout)
        for name, probe in probes.items():
            if probe.whole:
                found = recorded(probe.function(whole))
                rows[name] = found if probe.readout else jnp.append(found, jnp.nan)
    return {name: rows[name] for name in probes}
