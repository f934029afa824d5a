"""What the layers of a network of a user's own say: a word for each, a title, and advice."""

import re
from collections import Counter
from typing import NamedTuple

import numpy as np
import xarray as xr

from fadeout.analysis.verdicts import EXPLODING, PARTLY_DEAD, VANISHING

NOT_JUDGED = "unknown", "not_used"
"""Verdicts of layers that say nothing of the network."""


def one_look(found: xr.Dataset) -> xr.Dataset:
    """One row for each layer of what was seen of a network: of a watch the last look; of several
    seeds the median."""
    if "step" in found.dims:
        last = found.isel(step=-1)
        return last.assign_attrs(loss=float(last["loss"]))
    if "seed" not in found.dims:
        return found
    words = [name for name in found if "seed" not in found[name].dims]
    return found.drop_vars(words).median("seed", keep_attrs=True).assign(found[words])


def verdict_title(found: xr.Dataset) -> str:
    """A short title: the network, its loss, and how many layers have what verdict, or which."""
    each = found["verdict"].values
    ill = Counter(word for word in each if word != "healthy")
    named = [
        f"{number} of {each.size} layers {word.replace('_', ' ')}"
        if number > 1
        else f"{found['layer'].values[each == word][0]} {word.replace('_', ' ')}"
        for word, number in ill.most_common()
    ]
    words = "; ".join(named) or "healthy in all layers"
    name = "" if found.attrs["module"] == "loss" else f"{found.attrs['module']}, "
    return f"{name}loss {found.attrs['loss']:.4g}: {words}"


def layer_verdicts(own: xr.Dataset) -> np.ndarray:
    """One word for each layer, the first that applies.

    *unknown*, what was seen does not explain the gradient; *not_used*, it stands in a branch
    that was not taken; *diverged*, a value is not finite; *no_gradient*, delta is exactly 0;
    *dead*, all units are; *vanishing* and *exploding*, delta is less than 1/100, or more than
    100 times, that of the layer it is compared with, or of the last step in time; *saturated*,
    more than nine units in ten; *partly_dead*, more than half of the units are; else *healthy*.

    A layer is compared with the last one whose path differs in numbers alone, as
    `blocks/0/query` and `blocks/7/query`; without such, with the last hidden layer. Hidden layers
    have an activation function. Heads and embeddings are not compared, nor is a kernel that
    is used at many steps in time.
    """
    delta = own["delta_norm"].values
    unknown = np.isnan(own["weight_norm"].values) & np.isnan(delta)
    unused = np.isnan(own["preactivation_std"].values) & (delta == 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = delta / delta[_compared_with(own)]
    ratio[own["kind"].values == "embedding"] = np.nan
    time = own["delta_over_time"].values
    conditions = {
        "unknown": unknown,
        "not_used": unused,
        "diverged": ~np.isfinite(delta),
        "no_gradient": delta == 0,
        "dead": own["dead_units"].values >= 1,
        "vanishing": (ratio < VANISHING) | (time < VANISHING),
        "exploding": (ratio > EXPLODING) | (time > EXPLODING),
        "partly_dead": own["dead_units"].values > PARTLY_DEAD,
        "saturated": own["saturation"].values > 0.9,
    }
    return np.select(list(conditions.values()), list(conditions), "healthy")


def _compared_with(own: xr.Dataset) -> np.ndarray:
    """The place of the layer with which each is compared, [layer]; its own, where with none."""
    delta = own["delta_norm"].values
    passes = np.isfinite(delta) & (delta > 0)
    hidden = passes & np.isfinite(own["saturation"].values)
    roles = np.array([re.sub(r"\d+", "#", str(path)) for path in own["layer"].values])
    timed = np.isfinite(own["delta_over_time"].values)
    place = np.arange(delta.size)
    everywhere = np.flatnonzero(hidden if hidden.any() else passes)
    found = place.copy()
    for role in dict.fromkeys(roles):
        members = roles == role
        others = np.flatnonzero(members & (hidden if (members & hidden).any() else passes))
        if members.sum() == 1:
            others = everywhere[~timed[everywhere] & ~timed[members]]
        if others.size:
            found[members] = others[-1]
    return np.where(place <= found, found, place)


_LEVEL = 0.7, 1.4
"""A gradient that changes by such factors a layer is level: by a factor of 30 over ten layers."""


class Advice(NamedTuple):
    """Advice in a sentence; and the scale of the hidden kernels, fan_in times the variance of
    a weight, with which delta would be level, where that is what to do."""

    words: str
    scale: float | None = None


def hidden_layers(found: xr.Dataset) -> np.ndarray:
    """The places of the layers that have an activation function, [hidden]."""
    judged = ~np.isin(found["verdict"].values, NOT_JUDGED)
    active = np.isfinite(found["saturation"].values) & (found["kind"].values != "embedding")
    return np.flatnonzero(judged & active)


def kernel_scales(found: xr.Dataset) -> np.ndarray:
    """Returns fan_in times the variance of the weights, as `variance_scaling` counts, [layer]."""
    return (found["weight_norm"] ** 2 / found["units"]).values


def suggest(found: xr.Dataset) -> Advice:
    """Says what to do about what one look has shown.

    A kernel of the size c times as large passes a delta on c times as large, where slopes stay as
    they are. So the scale is advised with which delta would be level, in the words of
    `variance_scaling` (Flax, Haiku and JAX have it).

    Args:
      found: over `layer` alone.
    """
    hidden = hidden_layers(found)
    own = found.isel(layer=hidden)
    found = found.isel(layer=~np.isin(found["verdict"].values, NOT_JUDGED))
    if not np.isfinite(found["delta_norm"]).all() or not np.isfinite(found["gradient_norm"]).all():
        return Advice("values are not finite: lower the learning rate, or clip the gradient")
    over_time = found["delta_over_time"].values
    lost = (over_time < VANISHING) & (over_time >= 0)
    if lost.any():
        decades = -np.log10(max(np.nanmin(over_time), 1e-45))
        return Advice(
            f"the gradient loses {decades:.0f} decades over time: an orthogonal or identity-like "
            "recurrent kernel, an LSTM with a forget bias of 1 or more, or shorter sequences"
        )
    delta = own["delta_norm"].values
    if hidden.size < 3:
        if np.isfinite(over_time).any():
            return Advice(
                "the gradient is level over time: if it does not train, look at the learning rate"
            )
        return Advice("cannot tell: there are fewer than three layers with an activation function")
    if not (delta > 0).all():
        return Advice(
            "no gradient comes to some layers: look at dead units, and at what is detached"
        )
    factor = factor_a_layer(own)
    if is_level(factor):
        return Advice(
            "the gradient is level over the layers: if it does not train, look at the learning rate"
        )
    if is_saturated(own):
        return Advice(
            "most units are saturated: make the kernels smaller, or normalise before activations"
        )
    scale = float(kernel_scales(own).mean()) / factor**2
    return Advice(
        f"{loses(factor)}: {scaling_words(scale)} would keep it level; or add residual branches, "
        "or normalise",
        scale,
    )


def factor_a_layer(hidden: xr.Dataset) -> float:
    """The factor by which delta changes from a hidden layer to the one below it."""
    delta = hidden["delta_norm"].values
    return float(delta[0] / delta[-1]) ** (1 / (delta.size - 1))


def is_level(factor: float) -> bool:
    """Returns whether a gradient that changes by this factor a layer is level."""
    return _LEVEL[0] <= factor <= _LEVEL[1]


def is_saturated(hidden: xr.Dataset) -> bool:
    """Returns whether most units of some layers are saturated."""
    return float(hidden["saturation"].mean()) > 0.8


def loses(factor: float) -> str:
    word = "vanishes" if factor < 1 else "explodes"
    return f"the gradient {word}, {factor:.2g} times a layer on its way down"


def scaling_words(scale: float) -> str:
    return f"variance_scaling({scale:.2g}, 'fan_in', 'normal')"
