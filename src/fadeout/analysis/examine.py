"""The same quantities for a network of a user's own: one row a layer."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from fadeout.analysis.intervals import Interval, mean_interval
from fadeout.analysis.layer_verdicts import (
    Advice,
    factor_a_layer,
    hidden_layers,
    is_level,
    is_saturated,
    kernel_scales,
    layer_verdicts,
    loses,
    one_look,
    scaling_words,
    suggest,
)
from fadeout.networks.inspection import (
    Look,
    count_parameters,
    functional,
    is_module,
    look,
    rescale,
    tapped,
)
from fadeout.registry import FadeoutError, user_errors
from fadeout.sweeps.variables import variable_attributes

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
        return _with_advice(dataset_of(seen, value, name_of(network)))
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
    except (TypeError, ValueError, OverflowError) as error:
        raise FadeoutError(
            f"inputs and targets must be arrays: {str(error).splitlines()[0]}"
        ) from error
    value, seen = _looked_at(own.loss, (own.parameters, own.state, *arrays), 1)
    return _with_advice(dataset_of(seen, value, type(module).__name__))


def _with_advice(found: xr.Dataset) -> xr.Dataset:
    return found.assign_attrs(advice=suggest(found).words)


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


_MOST_TRIALS = 4
"""Scales that are tried; each follows from what the one before has shown."""


def _examine_many(loss: Callable, data: tuple, seeds: int) -> xr.Dataset:
    """Networks of so many keys, at once; where another scale of the kernels is advised, with that
    as well."""
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise FadeoutError(f"seeds must be a whole number from 1 on, not {seeds!r:.40}")
    if not data or not callable(data[0]):
        raise FadeoutError(
            "with seeds, what follows the loss makes parameters: a function of a key, "
            "examine(loss, make, *data, seeds=64)"
        )
    make, *rest = data

    def of_one(key, factors):
        value, _, seen = tapped(loss)(rescale(make(key), factors), *rest)
        return value, seen

    of_all = jax.jit(jax.vmap(of_one, (0, None)))
    keys = jax.random.split(jax.random.key(0), seeds)

    def examined(factors: np.ndarray) -> tuple[xr.Dataset, tuple]:
        with user_errors(f"the loss {name_of(loss)}", "fails"):
            value, seen = of_all(keys, factors)
        found = dataset_of(seen, jnp.mean(value), name_of(loss), ("seed", "layer"))
        return found, seen.parameters

    with user_errors("the function that makes parameters", "fails"):
        count = count_parameters(jax.eval_shape(make, keys[0]))
    found, own = examined(np.ones(count))
    advice = suggest(one_look(found))
    words = advice.words
    if advice.scale is not None:
        words = _try_scales(found, advice, lambda by: examined(by)[0], own, count)
    found.attrs["advice"] = words
    return found


def _try_scales(
    found: xr.Dataset, advice: Advice, examined: Callable, own: tuple, count: int
) -> str:
    """Gives the hidden kernels the advised scale, looks again, and mends the scale by what is seen.

    Adds `advised_delta_norm`, delta as it is then.

    Args:
      examined: gives what is seen with each parameter times a factor.
      own: the parameters of each layer; `count`, how many there are in all.

    Returns:
      What to do.
    """
    before = one_look(found)
    hidden = hidden_layers(before)
    sizes, scale = kernel_scales(before), advice.scale
    start = loses(factor_a_layer(before.isel(layer=hidden)))
    best: _Trial | None = None
    for _ in range(_MOST_TRIALS):
        assert scale is not None
        factors = np.ones(count)
        for parameter in {leaf for layer in hidden for leaf in own[layer]}:
            layers = [layer for layer in hidden if parameter in own[layer]]
            factors[parameter] = np.sqrt(scale / np.exp(np.log(sizes[layers]).mean()))
        tried = examined(factors)
        delta = tried["delta_norm"].values[:, hidden]
        with np.errstate(divide="ignore", invalid="ignore"):
            decades = np.log10(delta[:, -1] / delta[:, 0]) / (hidden.size - 1)
        lost = mean_interval(decades, flags=False)
        if not np.isfinite(lost.value):
            break
        trial = _Trial(tried, lost, int(np.isfinite(decades).sum()))
        good = is_level(trial.factor) and not is_saturated(one_look(tried).isel(layer=hidden))
        if good and (best is None or abs(lost.value) < abs(best.lost.value)):
            best = trial
        if good and abs(lost.value) < _LEVEL_DECADES:
            break
        scale /= trial.factor**2
    if best is None:
        return (
            f"{start}, and no scale of the kernels levels it: add residual branches, or normalise"
        )
    found["advised_delta_norm"] = found["delta_norm"].copy(data=best.seen["delta_norm"].values)
    after = one_look(best.seen)
    saturated = float(after["saturation"].values[hidden].mean())
    price = (
        f"; but {saturated:.0%} of the units are saturated then: better normalise, or add "
        "residual branches"
        if saturated > 0.5
        else ""
    )
    return (
        f"{start}: {scaling_words(float(np.mean(kernel_scales(after)[hidden])))} keeps it level, "
        f"tried on {best.seeds} network{'s' * (best.seeds > 1)}: {best.words()}{price}"
    )


_LEVEL_DECADES = 0.02
"""Decades a layer below which no better scale is looked for."""


class _Trial(NamedTuple):
    """A look with another scale of the kernels.

    Attributes:
      lost: decades of delta a layer, on its way down.
      seeds: networks in which it is finite.
    """

    seen: xr.Dataset
    lost: Interval
    seeds: int

    @property
    def factor(self) -> float:
        return 10.0**-self.lost.value

    def words(self) -> str:
        """The factor a layer, with its interval where there is one."""
        ends = [10**-end for end in (self.lost.high, self.lost.low)]
        interval = f" [{ends[0]:.3g}, {ends[1]:.3g}]" if np.isfinite(ends).all() else ""
        return f"{self.factor:.3g} times a layer{interval}"


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
    found["verdict"] = "layer", layer_verdicts(one_look(found))
    return found


_TITLES = {
    "preactivation_mean": "mean preactivation",
    "preactivation_std": "standard deviation of the preactivations",
    "delta_over_time": "delta at the first step in time over that at the last",
}


def _examined_attributes(name: str) -> dict[str, str]:
    return {"long_name": _TITLES[name]} if name in _TITLES else variable_attributes(name)
