"""The same quantities for a network of a user's own: one row a layer."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from fadeout.analysis.verdicts import EXPLODING, VANISHING
from fadeout.networks.inspection import inspect_network
from fadeout.networks.layers import Layer
from fadeout.networks.norms import average, root_mean_square
from fadeout.networks.probes import PROBES
from fadeout.registry import FadeoutError
from fadeout.sweeps.variables import variable_attributes

_PROBES_ALWAYS = ("gradient_norm", "delta_norm", "weight_norm", "one_sided")
_PROBES_WITH_SLOPE = ("activation_mean", "activation_std", "saturation", "dead_units")
"""Those of layers with an activation function."""


def examine(
    module: Any,
    inputs: Any,
    targets: Any = None,
    loss: Callable | None = None,
    variables: Mapping | None = None,
    **keywords: Any,
) -> xr.Dataset:
    """Measures signal and gradient in every dense and convolutional layer of your network, on one
    batch.

    The module is not changed.

    Args:
      module: of flax.nnx; or of flax.linen, with its `variables`.
      inputs: what it is called with, examples first.
      targets: what the loss compares its output with.
      loss: takes output and targets, and gives a number, or one for each example, whose mean is
        taken. Without a loss, the mean square of the output is used.
      keywords: passed to the module's call, such as `train=False`, or `rngs` of Linen.

    Returns:
      A dataset over `layer`, in the order of calls and labelled by the layers' paths. It holds
      `gradient_norm`, `bias_gradient_norm`, `delta_norm`, `weight_norm`, `one_sided`, and the
      preactivations' mean and standard deviation. Where an activation function follows, it also
      holds `activation_mean`, `activation_std`, `saturation` and `dead_units`. Elsewhere these are
      NaN, except that a unit which receives no delta counts as dead. `verdict` has a word for each
      layer. Positions of images and sequences count as examples. `fadeout.compare` draws the
      dataset, and `fadeout.to_frame` makes a table of it.

    Raises:
      FadeoutError: the module is not one of Flax, it has none of these layers, or the loss is not a
        number.

    >>> from flax import nnx
    >>> network = nnx.Sequential(nnx.Linear(2, 8, rngs=nnx.Rngs(0)), nnx.relu,
    ...                          nnx.Linear(8, 1, rngs=nnx.Rngs(1)))
    >>> seen = examine(network, np.eye(2))
    >>> seen.layer.values.tolist(), seen.delta_norm.dims
    (['layers/0', 'layers/2'], ('layer',))
    """
    if loss is not None and not callable(loss):
        raise FadeoutError(f"loss must be a function of output and targets, not {loss!r:.60}")
    judge = loss or (lambda output, _: jnp.mean(jnp.square(output)))
    value, layers = inspect_network(module, inputs, targets, judge, variables, keywords)
    shown = jax.jit(lambda shown: [_probe_layer(*pair) for pair in shown])(
        [(seen.layer, seen.preactivation) for seen in layers]
    )  # at once: one by one, every operation is compiled by itself
    rows = [{name: float(value) for name, value in row.items()} for row in shown]
    variables_ = {
        name: ("layer", np.array([row[name] for row in rows]), _examined_attributes(name))
        for name in rows[0]
    }
    found = xr.Dataset(
        variables_,
        {
            "layer": [seen.call.path for seen in layers],
            "kind": ("layer", [seen.call.kind for seen in layers]),
            "units": ("layer", [seen.preactivation.shape[1] for seen in layers]),
        },
        {"loss": float(value), "module": type(module).__name__},
    )
    found["verdict"] = "layer", _layer_verdicts(found)
    return found


def _probe_layer(layer: Layer, z: Float[Array, "example fan_out"]) -> dict[str, Float[Array, ""]]:
    """Applies the probes to a layer and its preactivations [example, out]."""
    graded = layer.slope is not None
    found = {name: PROBES[name].function(layer) for name in _PROBES_ALWAYS}
    biased = layer.bias_gradient is not None
    found["bias_gradient_norm"] = PROBES["bias_gradient_norm"].function(layer) if biased else np.nan
    found["preactivation_mean"] = average(z)
    found["preactivation_std"] = root_mean_square(z - average(z))
    found |= {
        name: PROBES[name].function(layer) if graded else np.nan for name in _PROBES_WITH_SLOPE
    }
    if not graded:
        found["dead_units"] = jnp.mean(jnp.all(layer.delta == 0, axis=0))
    return {name: jnp.asarray(value) for name, value in found.items()}


def _examined_attributes(name: str) -> dict[str, str]:
    titles = {
        "preactivation_mean": "mean preactivation",
        "preactivation_std": "standard deviation of the preactivations",
    }
    return {"long_name": titles[name]} if name in titles else variable_attributes(name)


def _layer_verdicts(found: xr.Dataset) -> np.ndarray:
    """One word for each layer, the first that applies.

    *diverged*, a value is not finite; *no_gradient*, delta is exactly 0; *dead*, all units are;
    *vanishing* and *exploding*, delta is less than 1/100, or more than 100 times, that of the last
    hidden layer to which a gradient comes; *saturated*, more than nine units in ten; else
    *healthy*. Hidden layers have an activation function; heads are not compared with them.
    """
    delta = found["delta_norm"].values
    passes = np.isfinite(delta) & (delta > 0)
    hidden = np.flatnonzero(passes & np.isfinite(found["saturation"].values))
    known = hidden if hidden.size else np.flatnonzero(passes)
    last = known[-1] if known.size else len(delta) - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(np.arange(len(delta)) <= last, delta / delta[last], np.nan)
    conditions = {
        "diverged": ~np.isfinite(delta),
        "no_gradient": delta == 0,
        "dead": found["dead_units"].values >= 1,
        "vanishing": ratio < VANISHING,
        "exploding": ratio > EXPLODING,
        "saturated": found["saturation"].values > 0.9,
    }
    return np.select(list(conditions.values()), list(conditions), "healthy")
