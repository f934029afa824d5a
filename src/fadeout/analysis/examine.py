"""The same quantities for a network of a user's own: one row a layer."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from fadeout.analysis.verdicts import EXPLODING, VANISHING
from fadeout.networks.inspection import Look, functional, is_module, look, tapped
from fadeout.registry import FadeoutError, user_errors
from fadeout.sweeps.variables import variable_attributes

NOT_JUDGED = "unknown", "not_used"
"""Verdicts of layers that say nothing of the network."""

_UNEXPLAINED = 1e-2
"""The part of a kernel's gradient that its weighted sum may leave open, by rounding."""


def examine(
    network: Any,
    *data: Any,
    loss: Callable | None = None,
    variables: Mapping | None = None,
    seeds: int | None = None,
    **keywords: Any,
) -> xr.Dataset:
    """Measures signal and gradient in every layer of your own network, on one batch.

    A layer is a matrix product, convolution or lookup in which parameters meet data, in any
    framework: nothing is patched, and the network is not changed. Two ways to call it:

    - `examine(loss, parameters, *data)`, with a loss that is a function of these and gives a
      number. The parameters are any tree of arrays (Flax, Equinox, Haiku, plain JAX), or a module
      of flax.nnx. With `seeds`, they are a function of a key that makes such, and as many networks
      are made and examined at once.
    - `examine(module, inputs, targets, loss)`, with a module of flax.nnx, or of flax.linen with its
      `variables`. The loss takes output and targets, and gives a number, or one for each example,
      whose mean is taken; without it, the mean square of the output is used.

    Args:
      keywords: passed to a module's call, such as `train=False`, or `rngs` of Linen.

    Returns:
      A dataset over `layer`, in the order of calls and labelled by the parameters' paths; the
      layers of a stack that is scanned have numbers. With `seeds`, over `seed` and `layer`. It
      holds `gradient_norm`, `bias_gradient_norm`, `delta_norm`, `weight_norm`, `one_sided`, and the
      preactivations' mean and standard deviation. Where an activation function follows, it also
      holds `activation_mean`, `activation_std`, `saturation` and `dead_units`. Elsewhere these are
      NaN, except that a unit which receives no delta counts as dead. `delta_over_time` is delta at
      the first step in time over that at the last. Positions of images and sequences, and steps in
      time, count as examples. `verdict` has a word for each layer, and the attribute `advice` says
      what to do. `fadeout.compare` draws the dataset, and `fadeout.to_frame` makes a table of it.

    Raises:
      FadeoutError: it is no network, it has no layers, or the loss is not a number.

    >>> def loss(parameters, x):
    ...     return jnp.mean(jax.nn.relu(x @ parameters["below"]) @ parameters["above"])
    >>> parameters = {"above": jnp.ones((8, 1)), "below": jnp.ones((2, 8))}
    >>> seen = examine(loss, parameters, np.eye(2))
    >>> seen.layer.values.tolist(), seen.delta_norm.dims
    (['below', 'above'], ('layer',))
    """
    if seeds is not None:
        return _examine_many(network, data, seeds)
    if callable(network) and not is_module(network):
        if loss is not None or keywords or not data:
            raise FadeoutError(
                "examine takes a loss, its parameters and its data, or a module of Flax, its "
                "inputs and targets"
            )
        value, seen = _looked_at(network, data)
        return dataset_of(seen, value, name_of(network))
    given = dict(zip(("inputs", "targets", "loss", "variables"), data, strict=False))
    given |= {name: keywords.pop(name) for name in ("inputs", "targets") if name in keywords}
    given |= {} if loss is None else {"loss": loss}
    given |= {} if variables is None else {"variables": variables}
    return _examine_module(network, keywords, **given)


def _examine_module(
    module: Any, keywords: dict, inputs: Any = None, targets: Any = None,
    loss: Callable | None = None, variables: Any = None,
) -> xr.Dataset:  # fmt: skip
    if loss is not None and not callable(loss):
        raise FadeoutError(f"loss must be a function of output and targets, not {loss!r:.60}")
    own = functional(module, variables, loss or _mean_square, keywords)
    try:
        arrays = jax.tree.map(jnp.asarray, (inputs, targets))
    except (TypeError, ValueError) as error:
        raise FadeoutError(
            f"inputs and targets must be arrays: {str(error).splitlines()[0]}"
        ) from error
    value, seen = _looked_at(own.loss, (own.parameters, own.state, *arrays), 1)
    return dataset_of(seen, value, type(module).__name__)


def _looked_at(loss: Callable, data: tuple, states: int = 0) -> tuple[Any, Look]:
    try:
        with user_errors(f"the loss {name_of(loss)}", "fails"):
            return look(loss, *data, states=states)
    except FadeoutError as error:  # without what JAX adds to an error that passes it
        raise FadeoutError(str(error)) from error.__cause__


def _mean_square(output: Any, _: Any) -> Any:
    return jnp.mean(jnp.square(output))


def name_of(function: Any) -> str:
    """Returns the name of a loss, by which its results are titled."""
    return getattr(function, "__name__", type(function).__name__)


def _examine_many(loss: Callable, data: tuple, seeds: int) -> xr.Dataset:
    """Networks of so many keys, at once."""
    if not isinstance(seeds, int) or seeds < 1:
        raise FadeoutError(f"seeds must be a whole number from 1 on, not {seeds!r:.40}")
    if not data or not callable(data[0]):
        raise FadeoutError(
            "with seeds, what follows the loss makes parameters: a function of a key, "
            "examine(loss, make, *data, seeds=64)"
        )
    make, *rest = data

    def of_one(key):
        made = make(key)
        value, _, seen = tapped(loss)(made, *rest)
        return value, seen

    with user_errors(f"the loss {name_of(loss)}", "fails"):
        value, seen = jax.jit(jax.vmap(of_one))(jax.random.split(jax.random.key(0), seeds))
    return dataset_of(seen, jnp.mean(value), name_of(loss), ("seed", "layer"))


def dataset_of(seen: Look, loss: Any, name: str, dims: tuple[str, ...] = ("layer",)) -> xr.Dataset:
    """Makes a dataset of what was seen; of layers whose gradient is not explained by what was seen,
    NaN."""
    values = {key: np.array(value, float) for key, value in seen.values.items()}
    unexplained = values.pop("unexplained")
    hidden = unexplained > _UNEXPLAINED
    for own in values.values():
        own[hidden] = np.nan
    found = xr.Dataset(
        {key: (dims, own, _examined_attributes(key)) for key, own in values.items()},
        {
            "layer": list(seen.layers),
            "kind": ("layer", list(seen.kinds)),
            "units": ("layer", list(seen.units)),
        },
        {"loss": float(np.mean(loss)), "module": name},
    )
    hidden = hidden.reshape(-1, hidden.shape[-1]).any(0)
    notes = list(seen.unseen)
    notes += [
        f"{path}: its gradient has other parts than what was seen"
        for path in np.array(seen.layers)[hidden]
    ]
    found.attrs["notes"] = "; ".join(notes)
    own = found if dims == ("layer",) else _typical(found)
    own["verdict"] = found["verdict"] = "layer", _layer_verdicts(own)
    found.attrs["advice"] = suggest(own)
    return found


def _typical(found: xr.Dataset) -> xr.Dataset:
    """Takes of several seeds the geometric mean of what is a size, else the mean."""
    with np.errstate(divide="ignore"):
        sizes = {
            name: np.exp(np.log(found[name]).mean("seed"))
            for name in ("delta_norm", "weight_norm", "gradient_norm", "delta_over_time")
        }
    return found.mean("seed").assign(sizes)


_TITLES = {
    "preactivation_mean": "mean preactivation",
    "preactivation_std": "standard deviation of the preactivations",
    "delta_over_time": "delta at the first step in time over that at the last",
}


def _examined_attributes(name: str) -> dict[str, str]:
    return {"long_name": _TITLES[name]} if name in _TITLES else variable_attributes(name)


def _layer_verdicts(own: xr.Dataset) -> np.ndarray:
    """One word for each layer, the first that applies.

    *unknown*, what was seen does not explain the gradient; *not_used*, it stands in a branch
    that was not taken; *diverged*, a value is not finite; *no_gradient*, delta is exactly 0;
    *dead*, all units are; *vanishing* and *exploding*, delta is less than 1/100, or more than
    100 times, that of the last hidden layer to which a gradient comes, or of the last step in
    time; *saturated*, more than nine units in ten; else *healthy*. Hidden layers have an
    activation function; heads and embeddings are not compared with them.
    """
    delta = own["delta_norm"].values
    unknown = np.isnan(own["weight_norm"].values) & np.isnan(delta)
    unused = np.isnan(own["preactivation_std"].values) & (delta == 0)
    passes = np.isfinite(delta) & (delta > 0)
    hidden = np.flatnonzero(passes & np.isfinite(own["saturation"].values))
    known = hidden if hidden.size else np.flatnonzero(passes)
    last = known[-1] if known.size else len(delta) - 1
    compared = (np.arange(len(delta)) <= last) & (own["kind"].values != "embedding")
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(compared, delta / delta[last], np.nan)
    time = own["delta_over_time"].values
    conditions = {
        "unknown": unknown,
        "not_used": unused,
        "diverged": ~np.isfinite(delta),
        "no_gradient": delta == 0,
        "dead": own["dead_units"].values >= 1,
        "vanishing": (ratio < VANISHING) | (time < VANISHING),
        "exploding": (ratio > EXPLODING) | (time > EXPLODING),
        "saturated": own["saturation"].values > 0.9,
    }
    return np.select(list(conditions.values()), list(conditions), "healthy")


_LEVEL = 0.7, 1.4
"""A gradient that changes by such factors a layer is level: by a factor of 30 over ten layers."""


def suggest(found: xr.Dataset) -> str:
    """Says what to do about what one look has shown, in a sentence.

    A kernel of the size c times as large passes a delta on c times as large, where slopes stay as
    they are. So the scale is advised with which delta would be level, in the words of
    `variance_scaling` (Flax, Haiku and JAX have it): fan_in times the variance of the weights.

    Args:
      found: over `layer` alone.
    """
    found = found.isel(layer=~np.isin(found["verdict"].values, NOT_JUDGED))
    if not np.isfinite(found["delta_norm"]).all() or not np.isfinite(found["gradient_norm"]).all():
        return "values are not finite: lower the learning rate, or clip the gradient"
    over_time = found["delta_over_time"].values
    lost = (over_time < VANISHING) & (over_time >= 0)
    if lost.any():
        decades = -np.log10(max(np.nanmin(over_time), 1e-45))
        return (
            f"the gradient loses {decades:.0f} decades over time: an orthogonal or identity-like "
            "recurrent kernel, an LSTM with a forget bias of 1 or more, or shorter sequences"
        )
    hidden = np.flatnonzero(np.isfinite(found["saturation"]) & (found["kind"] != "embedding"))
    own = found.isel(layer=hidden)
    delta = own["delta_norm"].values
    if np.isfinite(over_time).any() and hidden.size < 3:
        return "the gradient is level over time: if it does not train, look at the learning rate"
    if hidden.size < 3:
        return "cannot tell: there are fewer than three layers with an activation function"
    if not (delta > 0).all():
        return "no gradient comes to some layers: look at dead units, and at what is detached"
    factor = (delta[0] / delta[-1]) ** (1 / (hidden.size - 1))
    if _LEVEL[0] <= factor <= _LEVEL[1]:
        return (
            "the gradient is level over the layers: if it does not train, look at the learning rate"
        )
    if float(own["saturation"].mean()) > 0.8:
        return "most units are saturated: make the kernels smaller, or normalise before activations"
    scale = float((own["weight_norm"] ** 2 / own["units"]).mean()) / factor**2
    word = "vanishes" if factor < 1 else "explodes"
    return (
        f"the gradient {word}, {factor:.2g} times a layer on its way down: "
        f"variance_scaling({scale:.2g}, 'fan_in', 'normal') would keep it level; or add residual "
        "branches, or normalise"
    )
