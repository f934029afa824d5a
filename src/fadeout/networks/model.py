"""The network: neurons, and chains of them. The only room that knows Flax.

A module is a plain pytree here, written for one network. `contract` and broadcasting let the same
code run with one network per lane, the run as the last axis of every parameter.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from fadeout.networks.activations import Activation, Graded
from fadeout.networks.initializers import initialize
from fadeout.networks.lanes import contract, fold, outer, put, scan, take


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

    def down(self, delta: jax.Array) -> jax.Array:
        """dL/dx of dL/dz: [example, out] to [example, in]."""
        return contract(delta, jnp.swapaxes(self.kernel[...], 0, 1))

    def gradient(self, x: jax.Array, delta: jax.Array) -> "Neuron":
        """dL/dW and dL/db of what was weighed and dL/dz, summed over examples."""
        return Neuron(outer(x, delta), fold(jnp.add, delta, 1))

    def at(self, place: jax.Array | int) -> "Neuron":
        """One layer of a stack."""
        return take(self, place)

    def set(self, place: jax.Array | int, layer: "Neuron") -> "Neuron":
        """The stack with another layer in this place."""
        return put(self, place, layer)


def masked(stack: Neuron, count: jax.Array | int) -> Neuron:
    """The stack with 0 in the places from `count` on."""

    def there(a):
        return jnp.where(jnp.arange(a.shape[0]).reshape(-1, *(1,) * (a.ndim - 1)) < count, a, 0)

    return jax.tree.map(there, stack)


class Signals(NamedTuple):
    """What a step sees in every hidden layer, [depth, example, width] each.

    Attributes:
      activation: phi(z).
      slope: phi'(z).
      delta: dL/dz.
    """

    activation: jax.Array
    slope: jax.Array
    delta: jax.Array


class MLP(nnx.Module):
    """`depth` hidden layers of `width` units and a linear readout, of one unit or one a class.

    The stack may have more places than there are layers, so that one program serves many depths;
    then `count`, which may be traced, says how many of its layers are there, and all else is 0.

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
    def create(
        cls, key, features: int, depth: int, width: int, dtype=jnp.float32, count=None,
        outputs: int = 1, **init,
    ):  # fmt: skip
        """Draws a network.

        Args:
          outputs: of the readout.
          count: how many of the depth - 1 hidden layers but the first to draw, if not all; each is
            the same, however many there are.
          init: the `name` of an initialiser, and its parameters, as `initialize` takes them.
        """

        def neuron(key, inputs, outputs):
            return Neuron(*initialize(key, (inputs, outputs), dtype, **init))

        first, hidden, readout = jax.random.split(key, 3)
        keys = jax.random.split(hidden, depth)[1:]
        # all at once: in a loop, XLA rounds the draws of float32 in another way
        stack = jax.vmap(lambda key: neuron(key, width, width))(keys)
        if count is not None:
            stack = masked(stack, count)
        return cls(neuron(first, features, width), stack, neuron(readout, width, outputs))

    def scaled(
        self, x: jax.Array, activation: Activation, gain: float | jax.Array = 1.0, count=None
    ) -> "MLP":
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
        count = self.hidden.kernel.shape[0] if count is None else count
        x, hidden = scan(layer, x, self.hidden, count)
        return MLP(first, hidden, layer(x, self.readout)[1])

    def unbiased(self) -> "MLP":
        """The network with every bias times 0, which hides nothing that is not finite."""
        first, hidden, readout = (
            Neuron(n.kernel[...], 0 * n.bias[...]) for n in (self.first, self.hidden, self.readout)
        )
        return MLP(first, hidden, readout)

    def cut(self, depth: int) -> "MLP":
        """The network without the empty places above its depth."""
        return MLP(self.first, jax.tree.map(lambda a: a[: depth - 1], self.hidden), self.readout)

    def __call__(self, x: jax.Array, activation: Activation) -> tuple[jax.Array, jax.Array]:
        """Runs a network without empty places.

        Args:
          x: [example, feature].

        Returns:
          The hidden preactivations z, [depth, example, width], and the output, [example, output].
        """

        def layer(x, neuron):
            z = neuron.preactivation(x)
            return activation(z), z

        x, first = layer(x, self.first)
        x, others = lax.scan(layer, x, self.hidden)
        return jnp.concatenate([first[None], others]), self.readout.preactivation(x)

    def forward(
        self, x: jax.Array, activation: Graded, count: jax.Array | int, signals: Signals
    ) -> tuple[jax.Array, Signals]:
        """The way up, as a step of training goes it.

        Args:
          x: [example, feature].
          activation: gives phi(z) and phi'(z).
          signals: of the step before, to be written over.

        Returns:
          The output [example, output]; and the signals, with new activations and slopes.
        """

        def layer(i, carry):
            h, activations, slopes = carry
            h, slope = activation(self.hidden.at(i).preactivation(h))
            return h, put(activations, i + 1, h), put(slopes, i + 1, slope)

        h, slope = activation(self.first.preactivation(x))
        start = h, put(signals.activation, 0, h), put(signals.slope, 0, slope)
        h, activations, slopes = lax.fori_loop(0, count, layer, start)
        return self.readout.preactivation(h), Signals(activations, slopes, signals.delta)

    def backward(
        self,
        x: jax.Array,
        delta: jax.Array,
        count: jax.Array | int,
        signals: Signals,
        before: "MLP",
    ) -> tuple[Signals, "MLP"]:
        """The way down: delta = phi'(z) * (delta of the layer above) @ its kernel^T.

        Args:
          delta: dL/d output, [example, output].
          signals: as `forward` gives them.
          before: gradients of the step before, to be written over.

        Returns:
          The signals, with new deltas; and dL/dW and dL/db of every layer.
        """

        def layer(number, carry):
            above, deltas, gradients = carry
            i = count - 1 - number
            delta = take(signals.slope, i + 1) * above
            own = self.hidden.at(i)
            gradients = gradients.set(i, own.gradient(take(signals.activation, i), delta))
            return own.down(delta), put(deltas, i + 1, delta), gradients

        readout = self.readout.gradient(take(signals.activation, count), delta)
        start = self.readout.down(delta), signals.delta, before.hidden
        above, deltas, hidden = lax.fori_loop(0, count, layer, start)
        delta = signals.slope[0] * above
        signals = signals._replace(delta=put(deltas, 0, delta))
        return signals, MLP(self.first.gradient(x, delta), hidden, readout)
