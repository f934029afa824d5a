"""The Flax modules `Dense` and `MLP`, with a hand-written forward and backward pass.

Only this module and `inspection` import Flax.

A module is a plain pytree here, written for one network. `matmul` and broadcasting let the same
code run with one network per lane, the run as the last axis of every parameter.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, ArrayLike, Float, UInt32

from fadeout.networks.activations import ActivationFunction, ByLayer, ValueAndSlope
from fadeout.networks.initializers import get_initializer, initialize
from fadeout.networks.keys import drawing_keys
from fadeout.networks.lanes import matmul, reduce_leading
from fadeout.networks.layouts import EXAMPLES_FIRST, Layout
from fadeout.networks.remedies import PLAIN, Remedy
from fadeout.networks.stacks import LayerCount, LayerIndex, mask_from, scan_active, set_at, take_at
from fadeout.networks.weight_files import Weights
from fadeout.registry import FadeoutError


class Dense(nnx.Module):
    """A dense layer of neurons: weighted sum, bias, activation.

    The activation is an argument of the call, not a part of the module: its slope or alpha may be
    traced, but it is never trained.

    Attributes:
      kernel: [fan_in, fan_out]; of a stack of layers, these come first.
      bias: [fan_out].
      factor: of its residual branch, a scalar, where that is trained.
      gain, shift: [fan_out], of its normalised preactivations, where they are trained.

    >>> from fadeout.networks.activations import step
    >>> both = Dense(jnp.array([[1.0], [1.0]]), jnp.array([-1.5]))
    >>> both(jnp.array([[0.0, 1.0], [1.0, 1.0]]), step).tolist()
    [[0.0], [1.0]]
    """

    def __init__(
        self,
        kernel: Float[ArrayLike, "..."],
        bias: Float[ArrayLike, "..."],
        factor: Float[ArrayLike, "..."] | None = None,
        gain: Float[ArrayLike, "..."] | None = None,
        shift: Float[ArrayLike, "..."] | None = None,
    ):
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(bias)
        self.factor = None if factor is None else nnx.Param(factor)
        self.gain = None if gain is None else nnx.Param(gain)
        self.shift = None if shift is None else nnx.Param(shift)

    def preactivation(
        self, x: Float[Array, "..."], layout: Layout = EXAMPLES_FIRST
    ) -> Float[Array, "..."]:
        """z = x @ kernel + bias, both [example, unit, *run] or in another layout."""
        return layout.matmul(x, self.kernel[...]) + layout.per_unit(self.bias[...])

    def __call__(
        self, x: Float[Array, "example fan_in *run"], activation: ActivationFunction
    ) -> Float[Array, "example fan_out *run"]:
        """phi(z)."""
        return activation(self.preactivation(x))

    def input_gradient(
        self, delta: Float[Array, "..."], layout: Layout = EXAMPLES_FIRST
    ) -> Float[Array, "..."]:
        """Returns dL/dx from dL/dz: `delta @ kernel.T`."""
        return layout.matmul_transposed(delta, self.kernel[...])

    def gradient(
        self,
        x: Float[Array, "..."],
        delta: Float[Array, "..."],
        layout: Layout = EXAMPLES_FIRST,
        **others: Array,
    ) -> "Dense":
        """Returns dL/dW and dL/db from the layer's input and dL/dz, summed over examples."""
        return Dense(layout.kernel_gradient(x, delta), layout.bias_gradient(delta), **others)

    def _with_parameters(
        self, kernel: Float[ArrayLike, "..."], bias: Float[ArrayLike, "..."]
    ) -> "Dense":
        """Returns the layer with another kernel and bias."""
        others = (None if p is None else p[...] for p in (self.factor, self.gain, self.shift))
        return Dense(kernel, bias, *others)

    def at(self, place: LayerIndex) -> "Dense":
        """Returns one layer of a stack."""
        return take_at(self, place)

    def set(self, place: LayerIndex, layer: "Dense") -> "Dense":
        """Returns the stack with another layer at this position."""
        return set_at(self, place, layer)


class Signals(NamedTuple):
    """The signals that a training step stores for every hidden layer, in its layout.

    Attributes:
      activation: phi(z).
      slope: phi'(z); of a normalised z, phi' of that.
      delta: dL/dz.
      preactivation: z, kept only where it is normalised.
    """

    activation: Float[Array, "depth ..."]
    slope: Float[Array, "depth ..."]
    delta: Float[Array, "depth ..."]
    preactivation: Float[Array, "depth ..."] | None = None


class MLP(nnx.Module):
    """`depth` hidden layers of `width` units and a linear readout, of one unit or one a class.

    The stack may have more places than there are layers, so that one program serves many depths;
    then `count`, which may be traced, says how many of its layers are there, and all parameters of
    others are 0.

    Attributes:
      first: from the features to the first hidden layer.
      hidden: the other depth - 1 hidden layers, stacked along a leading axis.
      readout: from the last hidden layer to the output.

    >>> from fadeout.networks.activations import tanh
    >>> from fadeout.networks.keys import layer_keys, seed_key
    >>> keys, init = layer_keys(seed_key(0), depth=3), {"name": "he_normal"}
    >>> network = MLP.create(keys, features=2, width=8, init=init)
    >>> z, output = network(jnp.ones((4, 2)), tanh)
    >>> z.shape, output.shape
    ((3, 4, 8), (4, 1))
    """

    def __init__(self, first: Dense, hidden: Dense, readout: Dense):
        self.first = first
        self.hidden = hidden
        self.readout = readout

    @classmethod
    def create(
        cls, keys: UInt32[ArrayLike, "layer 2 2"], features: int, width: int, dtype=jnp.float32,
        count=None, outputs: int = 1, affine: bool = False, rezero: bool = False, *,
        init: Mapping[str, Any],
    ):  # fmt: skip
        """Draws a network.

        Args:
          keys: as `keys.layer_keys` gives them, of the hidden layers and the readout.
          outputs: of the readout.
          count: how many of the depth - 1 hidden layers but the first to draw, if not all; each is
            the same, however many there are.
          affine: whether normalised preactivations have a trained gain and shift, 1 and 0 at first.
          rezero: whether residual branches have a trained factor, 0 at first.
          init: the `name` of an initialiser, and its parameters, as `initialize` takes them.
        """

        def dense(keys, inputs, outputs, hidden=True, branch=False):
            own: dict[str, Array] = {}
            if affine and hidden:
                own = {"gain": jnp.ones(outputs, dtype), "shift": jnp.zeros(outputs, dtype)}
            if rezero and branch:
                own["factor"] = jnp.zeros((), dtype)
            return Dense(*initialize(keys, (inputs, outputs), dtype, **init), **own)

        drawn = drawing_keys(keys, get_initializer(init["name"]))
        # all at once: in a loop, XLA rounds the draws of float32 in another way
        stack = jax.vmap(lambda keys: dense(keys, width, width, branch=True))(drawn[1:-1])
        if count is not None:
            stack = mask_from(stack, count)
        top = dense(drawn[-1], width, outputs, hidden=False)
        return cls(dense(drawn[0], features, width), stack, top)

    def scaled(
        self,
        x: Float[Array, "example feature"],
        activation: ActivationFunction,
        gain: float | Float[Array, ""] = 1.0,
        count: LayerIndex | None = None,
    ) -> "MLP":
        """The network with every kernel scaled so that its weighted sums over examples and units
        have variance gain^2; a layer without any variance stays as it is."""

        def layer(x, dense):
            sums = matmul(x, dense.kernel[...])
            deviation = jnp.std(sums)
            kernel = dense.kernel[...] * jnp.where(deviation > 0, gain / deviation, 1)
            dense = Dense(kernel, dense.bias[...])
            return dense(x, activation), dense

        x, first = layer(x, self.first)
        count = self.hidden.kernel.shape[0] if count is None else count
        x, hidden = scan_active(layer, x, self.hidden, count)
        return MLP(first, hidden, layer(x, self.readout)[1])

    def with_readout_scaled(self, factor: float) -> "MLP":
        """The network with the readout's kernel times a factor."""
        own = self.readout
        kernel = (own.kernel[...] * factor).astype(own.kernel.dtype)
        return MLP(self.first, self.hidden, own._with_parameters(kernel, own.bias[...]))

    def with_weights(self, weights: Weights, gain: float | Float[Array, ""] = 1.0) -> "MLP":
        """The network with kernels, times gain, and biases that are given for each layer.

        Raises:
          FadeoutError: they are of a network of another size.
        """
        kernels, biases = weights.kernels, weights.biases
        sizes = [n.kernel.shape[-2:] for n in (self.first, self.hidden, self.readout)]
        sizes[1:2] *= len(kernels) - 2
        for layer, (kernel, size) in enumerate(zip(kernels, sizes, strict=True), 1):
            if kernel.shape != size:
                raise FadeoutError(
                    f"{weights.name}: kernel_{layer} is {kernel.shape}, and of a network of this "
                    f"task and model.width {size}"
                )
        most = jnp.finfo(self.first.kernel.dtype).max
        if any(np.abs(array).max(initial=0) > most for array in (*kernels, *biases)):
            raise FadeoutError(
                f"{weights.name}: weights beyond {most:.1e} need training.dtype=float64"
            )

        def part(dense: Dense, kernel, bias) -> Dense:
            kernel = gain * jnp.asarray(kernel, dense.kernel.dtype)
            return dense._with_parameters(kernel, jnp.asarray(bias, dense.bias.dtype))

        inner = self.hidden.kernel[...], self.hidden.bias[...]
        if len(kernels) > 2:
            given = np.stack(kernels[1:-1]), np.stack(biases[1:-1])
            inner = tuple(a.at[: len(g)].set(g) for a, g in zip(inner, given, strict=True))
        return MLP(
            part(self.first, kernels[0], biases[0]),
            part(self.hidden, *inner),
            part(self.readout, kernels[-1], biases[-1]),
        )

    def without_biases(self) -> "MLP":
        """Returns the network with every bias times 0, which hides nothing that is not finite."""

        def part(n: Dense) -> Dense:
            return n._with_parameters(n.kernel[...], 0 * n.bias[...])

        return MLP(part(self.first), part(self.hidden), part(self.readout))

    def trim(self, depth: int) -> "MLP":
        """Returns the network without padded layers above its depth."""
        return MLP(self.first, jax.tree.map(lambda a: a[: depth - 1], self.hidden), self.readout)

    def __call__(
        self,
        x: Float[Array, "example feature *run"],
        activation: ActivationFunction,
        remedy: Remedy = PLAIN,
    ) -> tuple[Float[Array, "depth example width *run"], Float[Array, "example output *run"]]:
        """Runs a network without empty places.

        Returns:
          The hidden preactivations z, and the output.
        """

        def layer(carry, dense):
            h, z = carry
            z = remedy.add_skip(z, dense.preactivation(h), dense)
            return (activation(remedy.normalise(z, dense)), z), z

        z = self.first.preactivation(x)
        start = activation(remedy.normalise(z, self.first)), z
        (h, _), others = lax.scan(layer, start, self.hidden)
        return jnp.concatenate([z[None], others]), self.readout.preactivation(h)

    def forward(
        self,
        x: Float[Array, "example feature *run"],
        activation: ValueAndSlope | ByLayer,
        count: LayerCount,
        signals: Signals,
        remedy: Remedy = PLAIN,
        layout: Layout = EXAMPLES_FIRST,
    ) -> tuple[Float[Array, "example output *run"], Signals]:
        """Runs the forward pass of a training step, and stores the signals.

        Args:
          activation: gives phi(z) and phi'(z).
          count: of the hidden layers but the first; one that a lane lacks passes on what comes.
          signals: buffers to overwrite, so that XLA allocates none in the loop.
          layout: of the signals.

        Returns:
          The output; and the signals, but for delta.
        """

        def see(dense: Dense, z, place: LayerIndex):
            phi = activation.at(place) if isinstance(activation, ByLayer) else activation
            return phi(remedy.normalise(z, dense, layout))

        def layer(i, carry):
            below, z, kept = carry
            dense = self.hidden.at(i)
            z = remedy.add_skip(z, dense.preactivation(below, layout), dense)
            h, slope = see(dense, z, i + 1)
            h = count.where_active(i, h, below)
            return h, z if joined else None, keep(kept, i + 1, h, slope, z)

        def keep(kept: Signals, place, h, slope, z) -> Signals:
            return Signals(
                set_at(kept.activation, place, h),
                set_at(kept.slope, place, slope),
                kept.delta,
                None if kept.preactivation is None else set_at(kept.preactivation, place, z),
            )

        joined = remedy.branch is not None
        z = self.first.preactivation(layout.arrange(x), layout)
        h, slope = see(self.first, z, 0)
        start = h, z if joined else None, keep(signals, 0, h, slope, z)
        h, _, signals = lax.fori_loop(0, count.most, layer, start)
        return layout.arrange(self.readout.preactivation(h, layout)), signals

    def backward(
        self,
        x: Float[Array, "example feature *run"],
        delta: Float[Array, "example output *run"],
        count: LayerCount,
        signals: Signals,
        buffers: "MLP",
        remedy: Remedy = PLAIN,
        layout: Layout = EXAMPLES_FIRST,
    ) -> tuple[Signals, "MLP"]:
        """Runs the backward pass, written by hand, and stores delta of every layer.

            delta = phi'(z) * (delta of the layer above @ its kernel^T)

        A normalisation has a gradient of its own, and a skip connection adds delta unchanged.
        `jax.grad` cannot do this: the loops have a traced length (one program serves many depths),
        which has no reverse mode; surrogate slopes differ from the derivative; and delta of every
        layer, which `jax.grad` drops, is what probes measure. `tests/training` compares the result
        with `jax.grad` of the plain network.

        Args:
          delta: dL/d output.
          signals: as `forward` gives them.
          buffers: gradients to overwrite; those of padded layers must be 0 and stay 0.
          layout: of the signals.

        Returns:
          The signals, with new deltas; and the gradient of every parameter.
        """
        joined = remedy.branch is not None

        def through(dense: Dense, place, above):
            """dL/dz of dL/dh, but for the way besides the branch; and of what is trained there."""
            sloped = take_at(signals.slope, place) * above
            z = take_at(signals.preactivation, place)
            return remedy.normalised_gradient(z, sloped, dense, layout)

        def layer(number, carry):
            above, besides, deltas, gradients = carry
            i = count.most - 1 - number
            own = self.hidden.at(i)
            delta, others = through(own, i + 1, above)
            if joined:
                delta = delta + besides
            # of a layer that is not there, all gradients are 0
            there = functools.partial(count.where_active, i)
            delta, below = there(delta, 0), there(take_at(signals.activation, i), 0)
            others = {name: there(gradient, 0) for name, gradient in others.items()}
            sent = delta
            if joined:
                if own.factor is not None:
                    whole = own.preactivation(below, layout) * delta * remedy.branch
                    others |= {"factor": reduce_leading(jnp.add, whole, 2)}
                sent = remedy.factor(own) * delta
            gradients = gradients.set(i, own.gradient(below, sent, layout, **others))
            above = there(own.input_gradient(sent, layout), above)
            return above, delta if joined else None, set_at(deltas, i + 1, delta), gradients

        delta = layout.arrange(delta)
        readout = self.readout.gradient(take_at(signals.activation, count.most), delta, layout)
        above = self.readout.input_gradient(delta, layout)
        besides = jnp.zeros_like(above) if joined else None
        start = above, besides, signals.delta, buffers.hidden
        above, besides, deltas, hidden = lax.fori_loop(0, count.most, layer, start)
        delta, others = through(self.first, 0, above)
        delta = delta + besides if joined else delta
        signals = signals._replace(delta=set_at(deltas, 0, delta))
        first = self.first.gradient(layout.arrange(x), delta, layout, **others)
        return signals, MLP(first, hidden, readout)
