"""What probes are shown of a network: its layers, and all of them."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fadeout.networks.layouts import Layout
from fadeout.networks.remedies import Remedy
from fadeout.networks.stacks import LayerCount, scan_active


class Layer(NamedTuple):
    """One weight layer at one step, before the update: what a probe is a function of.

    The readout has no activation function: there `activation` and `slope` are None.

    Attributes:
      delta: dL/dz of each example's share of the loss.
      below: the activations that it weighs, or the task's inputs.
      path: of its kernel since the start.
      activation, slope: phi(z) and phi'(z).
      steepest_slope: the largest |phi'|.
      preactivation: z, where it is normalised; and the `gain` and `shift` of that, where they are
        trained.
      factor: of its residual branch, where that is trained.
    """

    kernel: Float[Array, "fan_in fan_out"]
    kernel_gradient: Float[Array, "fan_in fan_out"]
    kernel_update: Float[Array, "fan_in fan_out"]
    bias_gradient: Float[Array, "fan_out"]
    delta: Float[Array, "example fan_out"]
    below: Float[Array, "example fan_in"]
    path: "Path" = None  # type: ignore[assignment]
    activation: Float[Array, "example fan_out"] = None  # type: ignore[assignment]
    slope: Float[Array, "example fan_out"] = None  # type: ignore[assignment]
    steepest_slope: Float[Array, ""] = None  # type: ignore[assignment]
    preactivation: Float[Array, "example fan_out"] = None  # type: ignore[assignment]
    gain: Float[Array, "fan_out"] = None  # type: ignore[assignment]
    shift: Float[Array, "fan_out"] = None  # type: ignore[assignment]
    factor: Float[Array, ""] = None  # type: ignore[assignment]

    def arranged(self, layout: Layout, stacked: bool = False) -> "Layer":
        """Returns the layer with its signals from a training step's layout to [example, unit,
        *run]; `stacked`, of a stack of layers."""
        signals = "delta", "below", "activation", "slope", "preactivation"
        found = {name: getattr(self, name) for name in signals}
        return self._replace(**{
            name: layout.arrange(signal, stacked)
            for name, signal in found.items()
            if signal is not None
        })  # fmt: skip


class Path(NamedTuple):
    """The way that a kernel has gone, kept only where a probe asks for it.

    Attributes:
      last_update: before the first step it is 0.
      length: summed norms of all updates.
    """

    start: Float[Array, "fan_in fan_out"]
    last_update: Float[Array, "fan_in fan_out"]
    length: Float[Array, ""]


class Layers(NamedTuple):
    """All layers of a network, bottom to top; the `hidden` ones but the first are stacked.

    Attributes:
      present: how many of the stack, if not all; the others are 0.
      remedy: what the network has besides neurons, if anything.
      output_gradients: returns the gradient of each example's output by every parameter: of `first`
        and `readout` [example, parameter], of `hidden` [place, example, parameter]. Only where
        the network has a remedy, by which one example may depend on others.
    """

    first: Layer
    hidden: Layer
    readout: Layer
    present: LayerCount | None = None
    remedy: Remedy | None = None
    output_gradients: Callable[[], tuple[Array, ...]] | None = None

    @property
    def layer_count(self) -> LayerCount:
        """How many of the stack are there, and how long loops are."""
        return LayerCount(self.hidden.kernel.shape[0]) if self.present is None else self.present

    def scan(self, function: Callable, carry, reverse: bool = False):
        """Scans over the active layers of the stack, like `lax.scan`; padded ones give 0."""
        count = self.layer_count

        def there(carry, numbered):
            place, layer = numbered
            new, found = function(carry, layer)
            return jax.tree.map(functools.partial(count.where_active, place), new, carry), found

        numbered = jnp.arange(self.hidden.kernel.shape[0]), self.hidden
        return scan_active(there, carry, numbered, count.most, reverse)
