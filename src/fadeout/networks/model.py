"""The network: neurons, and chains of them. The only room that knows Flax.

A module is a plain pytree here, written for one network. `contract` and broadcasting let the same
code run with one network per lane, the run as the last axis of every parameter.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from fadeout.networks.activations import Activation
from fadeout.networks.initializers import initialize
from fadeout.networks.lanes import contract, fold, outer


class Neuron(nnx.Module):
    """A layer of neurons side by side: weighted sum, bias, activation.

    The activation is an argument of the call, not a part of the module: its slope or alpha may be
    traced, but it is never trained.

    Attributes:
      kernel: [in, out].
      bias: [out].

    >>> from fadeout.networks.activations import step
    >>> both = Neuron(jnp.array([[1.0], [1.0]]), jnp.array([-1.5]))
    >>> both(jnp.array([[0.0, 1.0], [1.0, 1.0]]), step).tolist()
    [[0.0], [1.0]]
    """

    def __init__(self, kernel: jax.Array, bias: jax.Array):
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(bias)

    def preactivation(self, x: jax.Array) -> jax.Array:
        """z = x @ kernel + bias: [example, in] to [example, out]."""
        return contract(x, self.kernel[...]) + self.bias[...]

    def __call__(self, x: jax.Array, activation: Activation) -> jax.Array:
        """phi(z): [example, in] to [example, out]."""
        return activation(self.preactivation(x))


class Signals(NamedTuple):
    """One value for every neuron and example.

    Attributes:
      first: [example, width].
      hidden: of the other hidden layers, [depth - 1, example, width].
      readout: [example, 1].
    """

    first: jax.Array
    hidden: jax.Array
    readout: jax.Array

    def stacked(self) -> jax.Array:
        """Those of all hidden layers, [depth, example, width]."""
        return jnp.concatenate([self.first[None], self.hidden])

    def below(self, inputs: jax.Array) -> "Signals":
        """What each layer weighs, if these are the activations: [example, in] of the first, ..."""
        hidden = self.stacked()
        return Signals(inputs, hidden[:-1], hidden[-1])


class MLP(nnx.Module):
    """`depth` hidden layers of `width` units and a linear readout of one unit.

    Attributes:
      first: from the features to the first hidden layer.
      hidden: the other depth - 1 hidden layers, stacked along a leading axis.
      readout: from the last hidden layer to the output.
    """

    def __init__(self, first: Neuron, hidden: Neuron, readout: Neuron):
        self.first = first
        self.hidden = hidden
        self.readout = readout

    @classmethod
    def create(cls, key, features: int, depth: int, width: int, dtype=jnp.float32, **init):
        """Draws a network.

        Args:
          init: the `name` of an initialiser, and its parameters, as `initialize` takes them.
        """

        def neuron(key, inputs, outputs):
            return Neuron(*initialize(key, (inputs, outputs), dtype, **init))

        first, hidden, readout = jax.random.split(key, 3)
        keys = jax.random.split(hidden, depth)[1:]
        return cls(
            neuron(first, features, width),
            jax.vmap(lambda key: neuron(key, width, width))(keys),
            neuron(readout, width, 1),
        )

    def scaled(self, x: jax.Array, activation: Activation, gain: float | jax.Array = 1.0) -> "MLP":
        """The network with every kernel scaled so that its weighted sums over examples and units
        have variance gain^2; a layer without any variance stays as it is.

        Args:
          x: [example, feature].
        """

        def layer(x, neuron):
            sums = contract(x, neuron.kernel[...])
            deviation = jnp.std(sums)
            kernel = neuron.kernel[...] * jnp.where(deviation > 0, gain / deviation, 1)
            neuron = Neuron(kernel, neuron.bias[...])
            return neuron(x, activation), neuron

        x, first = layer(x, self.first)
        x, hidden = lax.scan(layer, x, self.hidden)
        return MLP(first, hidden, layer(x, self.readout)[1])

    def __call__(
        self, x: jax.Array, activation: Activation, taps: Signals | None = None
    ) -> tuple[Signals, Signals]:
        """Runs the network, and returns all it computed on the way.

        Args:
          x: [example, feature].
          taps: zeros added to the preactivations, so that the gradient with respect to them is
            delta = dL/dz of every layer.

        Returns:
          The preactivations z and the activations phi(z); of the readout, both are its output.
        """

        def layer(x, neuron_and_tap):
            neuron, tap = neuron_and_tap
            z = neuron.preactivation(x)
            if tap is not None:
                z = z + tap
            h = activation(z)
            return h, (z, h)

        tap_first, taps_hidden, tap_readout = taps or (None, None, None)
        last, first = layer(x, (self.first, tap_first))
        last, others = lax.scan(layer, last, (self.hidden, taps_hidden))
        output = self.readout.preactivation(last)
        if tap_readout is not None:
            output = output + tap_readout
        z, h = (Signals(a, b, output) for a, b in zip(first, others, strict=True))
        return z, h


def parameter_gradients(below: Signals, delta: Signals) -> MLP:
    """dL/dW and dL/db of every layer: what it weighs times its delta, summed over examples.

    Made of all layers at once, which is faster than a layer at a time in the backward pass.
    """

    def neuron(below, delta):
        return Neuron(outer(below, delta), fold(jnp.add, delta, 1))

    first, hidden, readout = zip(below, delta, strict=True)
    return MLP(neuron(*first), jax.vmap(neuron)(*hidden), neuron(*readout))
