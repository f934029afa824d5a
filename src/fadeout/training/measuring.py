"""What the probes make of one step: of every layer a row."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fadeout.networks.lanes import scan, take
from fadeout.networks.model import MLP, Signals
from fadeout.networks.probes import Layer, Layers, Path, Probe
from fadeout.training.updates import Trained


class Sight(NamedTuple):
    """What one network shows at one step, before the step's update.

    Attributes:
      start: the network before the first step.
      inputs: [example, feature].
      delta: dL/d output, [example, 1].
      steepest_slope: the largest |phi'|, a scalar.
    """

    start: MLP
    trained: Trained
    gradients: MLP
    signals: Signals
    inputs: jax.Array
    delta: jax.Array
    steepest_slope: jax.Array

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
        )

    def layers(self, count) -> Layers:
        activation, slope, delta, _ = self.signals
        steepest = self.steepest_slope
        places = activation.shape[0] - 1
        return Layers(
            self.part("first")._replace(
                delta=delta[0], below=self.inputs, activation=activation[0], slope=slope[0],
                steepest_slope=steepest,
            ),
            self.part("hidden")._replace(
                delta=delta[1:], below=activation[:-1], activation=activation[1:], slope=slope[1:],
                steepest_slope=jnp.broadcast_to(steepest, places),
            ),
            self.part("readout")._replace(delta=self.delta, below=take(activation, count)),
            count,
        )  # fmt: skip


def measure(probes: dict[str, Probe], layers: Layers, update: Callable | None = None) -> dict:
    """Every probe in every weight layer, [place]; the readout has the last place, and NaN there
    of a probe that it lacks.

    Args:
      update: of a part's name, and of a place in the stack or None, gives the kernel's update;
        asked only for layers that are there. None where the layers have theirs.
    """
    places = layers.hidden.kernel.shape[0]
    count = places if layers.present is None else layers.present
    first, hidden, readout = layers[:3]
    if update is not None:
        first = first._replace(kernel_update=update("first", None))
        readout = readout._replace(kernel_update=update("readout", None))

    def hidden_at(place) -> Layer:
        layer = take(hidden, place)
        return layer if update is None else layer._replace(kernel_update=update("hidden", place))

    def of_one(layer: Layer, has_activation=True) -> dict:
        return {
            name: probe.function(layer) if has_activation or probe.readout else jnp.nan
            for name, probe in probes.items()
            if not probe.whole
        }

    def of_each(function: Callable):
        return scan(lambda _, place: (None, function(place)), None, jnp.arange(places), count)[1]

    inner = of_each(lambda place: of_one(hidden_at(place)))
    rows = {
        name: jnp.concatenate([low[None], inner[name], jnp.asarray(high)[None]])
        for (name, low), high in zip(
            of_one(first).items(), of_one(readout, False).values(), strict=True
        )
    }
    if any(probe.whole for probe in probes.values()):
        stack = of_each(lambda place: hidden_at(place).kernel_update)
        whole = Layers(first, hidden._replace(kernel_update=stack), readout, count)
        for name, probe in probes.items():
            if probe.whole:
                found = probe.function(whole)
                rows[name] = found if probe.readout else jnp.append(found, jnp.nan)
    return {name: rows[name] for name in probes}
