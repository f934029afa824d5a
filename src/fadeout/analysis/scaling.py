"""The coordinate check: how signal and gradient change with width or depth, after a few steps."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pandas as pd
import xarray as xr

from fadeout.analysis.comparison import shared_labels
from fadeout.analysis.groups import varies
from fadeout.analysis.intervals import mean_interval
from fadeout.analysis.predictions import PREDICTIONS
from fadeout.networks.inspection import Look, as_tree, tapped
from fadeout.registry import FadeoutError, format_value, lookup, user_errors
from fadeout.sweeps.results import takes_results, with_run_dim

_TOLERANCE = 0.05
"""A slope this close to what is right passes: a factor of 1.12 over a decade of widths."""

PROBES_OF_SCALING = ("activation_mean", "activation_std", "delta_norm", "update_ratio")
_POSITIONS = ("first", "middle", "last")
_STEPS = (0, 1, 10)


class Measured(NamedTuple):
    """A quantity at every size.

    Attributes:
      values: [size, seed, step, position].
      wanted: the exponent that is right, of each position.
      theory: what is expected at step 0, [size, position]; None where theory says nothing.
    """

    values: np.ndarray
    wanted: np.ndarray
    theory: np.ndarray | None = None


class Check(NamedTuple):
    """All that was measured over one axis.

    Attributes:
      sizes: of the axis; `steps` and `positions` those of the quantities.
    """

    over: str
    sizes: np.ndarray
    steps: tuple[int, ...]
    positions: tuple[str, ...]
    quantities: dict[str, Measured]


@takes_results
def check_runs(results: xr.Dataset, over: str = "width", steps: Sequence[int] = _STEPS) -> Check:
    """Measures a sweep over widths or depths.

    The signal is the root mean square of a hidden layer's activations, delta the norm of dL/dz, and
    update the norm of a kernel's update over that of the kernel.

    Args:
      results: of runs that differ in their width (or depth) and seed alone, with the probes
        `activation_mean`, `activation_std`, `delta_norm` and `update_ratio`.
      over: width or depth.
      steps: recorded ones.

    Raises:
      FadeoutError: what is missing, or what else varies.
    """
    results = with_run_dim(results, "scaling")
    lookup(dict.fromkeys(("width", "depth")), over, "axis of scaling")
    steps = _checked_steps(steps)
    if missing := [name for name in PROBES_OF_SCALING if name not in results]:
        raise FadeoutError(f"scaling needs the probes {', '.join(missing)}: record them as well")
    if absent := [step for step in steps if step not in results["step"].values]:
        raise FadeoutError(f"step {absent[0]} is not recorded: give others, or record_every")
    sizes = np.unique(results[over].values)
    if sizes.size < 3:
        raise FadeoutError(f"scaling needs three values of {over} or more, not {sizes.size}")
    labels = [n for n, v in results.coords.items() if v.dims == ("run",)]
    others = [
        name
        for name in map(str, labels)
        if name not in (over, "seed", "id", "config", "run") and varies(results, name)
    ]
    if others:
        raise FadeoutError(f"scaling is over {over} alone, and {', '.join(others)} vary as well")
    seeds = np.unique(results["seed"].values)
    table = {(s, seed): n for n, (s, seed) in enumerate(
        zip(results[over].values.tolist(), results["seed"].values.tolist(), strict=True)
    )}  # fmt: skip
    rows = [[table.get((size, seed)) for seed in seeds.tolist()] for size in sizes.tolist()]
    if any(row is None for of_size in rows for row in of_size):
        raise FadeoutError(f"scaling needs the same seeds at every {over}")
    places = np.array(rows)
    depth = results["depth"].values[places]
    layers = np.stack([np.ones_like(depth), (depth + 1) // 2, depth], -1)
    shown = [p for p in range(3) if p == 0 or (layers[..., p] != layers[..., p - 1]).any()]
    layers = layers[..., shown]
    at = [int(np.flatnonzero(results["step"].values == step)[0]) for step in steps]

    def gathered(values: np.ndarray) -> np.ndarray:  # [run, step, layer]
        picked = values[places][:, :, at]  # size seed step layer
        return np.take_along_axis(picked, layers[:, :, None, :] - 1, -1)

    signal = np.hypot(results["activation_std"], results["activation_mean"])
    mup = "parametrization" in results.coords and results["parametrization"].values[0] == "mup"
    unknown, flat = np.full(len(shown), np.nan), np.zeros(len(shown))
    wanted = {"delta": flat, "update": unknown}
    if mup and over == "width":  # a square kernel grows with sqrt(width), and its update does not
        wanted = {"delta": flat - 0.5, "update": np.where(np.array(shown) == 0, 0.0, -0.5)}
    quantities = {
        "signal": Measured(
            gathered(signal.values), flat, _expected_signal(results, places, layers)
        ),
        "delta": Measured(gathered(results["delta_norm"].values), wanted["delta"]),
        "update": Measured(gathered(results["update_ratio"].values), wanted["update"]),
    }
    positions = tuple(_POSITIONS[p] for p in shown)
    return Check(over, sizes, tuple(steps), positions, quantities)


def _expected_signal(
    results: xr.Dataset, places: np.ndarray, layers: np.ndarray
) -> np.ndarray | None:
    """Returns what mean field expects of wide random networks, at every size and position."""
    rows = []
    for run, own in zip(places[:, 0], layers[:, 0], strict=True):
        labels = shared_labels(results.isel(run=[run]))
        parts = [PREDICTIONS[f"activation_{of}", "layer"](labels, own) for of in ("std", "mean")]
        if any(part is None for part in parts):
            return None
        rows.append(np.hypot(*parts))
    return np.array(rows)


def check_networks(
    make: Callable, sizes: Sequence[int], steps: Sequence[int] = _STEPS, seeds: int = 4,
    optimizer: Any = None, over: str = "width",
) -> Check:  # fmt: skip
    """Makes networks of a user's own, and measures them while they train for a few steps.

    Args:
      make: of a size and a key, gives a loss, its parameters and a tuple of its other arguments.
      sizes: three or more.
      optimizer: of optax; or a function of a size that gives one. None looks at step 0 alone.

    Raises:
      FadeoutError: the networks of two sizes have other layers, or no layer has an activation.
    """
    if len(sizes) < 3 or len(set(sizes)) < len(sizes):
        raise FadeoutError(f"scaling needs three sizes or more, not {format_value(sizes)}")
    if not callable(make):
        raise FadeoutError(f"make must be a function of a size and a key, not {format_value(make)}")
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise FadeoutError(f"seeds must be a whole number from 1 on, not {format_value(seeds)}")
    steps = _checked_steps(steps) if optimizer is not None else (0,)
    signal, delta, names = [], [], None
    for size in sizes:
        chosen = optimizer(size) if callable(optimizer) else optimizer
        looks = _train_looking(make, size, seeds, steps, chosen)
        layers = looks[0].layers
        names = names or layers
        if layers != names:
            raise FadeoutError(
                f"networks of {over} {sizes[0]} and {size} have other layers: {', '.join(names)}; "
                f"and {', '.join(layers)}"
            )

        def values(name: str, looks: list[Look] = looks) -> np.ndarray:  # seed step layer
            return np.stack([np.asarray(look.values[name]) for look in looks], 1)

        signal.append(np.hypot(values("activation_std"), values("activation_mean")))
        delta.append(values("delta_norm"))
    hidden = np.flatnonzero(np.isfinite(signal[0][:, 0]).any(0))
    if not hidden.size:
        raise FadeoutError("no layer with an activation function was found")
    quantities = {
        "signal": Measured(np.array(signal)[..., hidden], np.zeros(hidden.size)),
        "delta": Measured(np.array(delta)[..., hidden], np.full(hidden.size, np.nan)),
    }
    assert names is not None
    return Check(over, np.array(sizes), steps, tuple(names[n] for n in hidden), quantities)


def _checked_steps(steps: Sequence[int]) -> tuple[int, ...]:
    """Steps in rising order, each once.

    Raises:
      FadeoutError: there are none, or one is no whole number from 0 on.
    """
    given = list(steps) if isinstance(steps, Sequence | np.ndarray) else []
    if not given or any(not isinstance(n, int | np.integer) or n < 0 for n in given):
        raise FadeoutError(f"steps must be whole numbers from 0 on, not {format_value(steps)}")
    return tuple(sorted({int(n) for n in given}))


def _train_looking(
    make: Callable, size: int, seeds: int, steps: Sequence[int], optimizer: Any
) -> list[Look]:
    """Looks at every layer of networks of several keys, at some steps; they share loss and data."""
    keys = jax.random.split(jax.random.key(0), seeds)
    with user_errors("the function that makes networks", "fails"):
        loss, module, data = make(size, keys[0])
        parameters = jax.vmap(lambda key: as_tree(loss, make(size, key)[1])[1])(keys)
    loss, _ = as_tree(loss, module)
    state = () if optimizer is None else jax.vmap(optimizer.init)(parameters)

    @jax.jit
    @jax.vmap
    def step(parameters, state):
        _, gradients, look = tapped(loss)(parameters, *data)
        if optimizer is not None:
            updates, state = optimizer.update(gradients, state, parameters)
            parameters = optax.apply_updates(parameters, updates)
        return parameters, state, look

    found = []
    for number in range(max(steps) + 1):
        parameters, state, look = step(parameters, state)
        if number in steps:
            found.append(look)
    return found


def scaling(
    what: xr.Dataset | Callable, over: str = "width", steps: Sequence[int] = _STEPS, **networks: Any
) -> pd.DataFrame:
    """The slopes of signal, delta and update against width or depth, on logarithmic axes.

    What is right is flat: a network of any width then learns alike, and the best learning rate
    stands still (Yang et al. 2022).

    Args:
      what: results of a sweep over widths or depths, or a function of a size and a key which makes
        networks of your own: it gives a loss, its parameters and a tuple of its other arguments.
      over: width or depth.
      steps: after how many steps of training.
      networks: for networks of your own, `sizes`, `seeds` and an `optimizer` of optax.

    Returns:
      For each quantity, position and step the `slope` of log10 against log10 of the size, with its
      95 % interval over seeds `low` and `high`; the slope that is right, `wanted`, where it is
      known; the slope that mean field expects of the start, `theory`; and a word: PASS, within 0.05
      of what is right, and the interval within 0.1; GROWS or SHRINKS, by the whole interval;
      undecided, where more seeds or wider networks are needed; or not finite, where a seed is not.

    Raises:
      FadeoutError: something is missing, or something else varies.

    >>> def make(width, key):
    ...     kernels = [jax.random.normal(k, (width, width)) for k in jax.random.split(key, 3)]
    ...     def loss(parameters, x):
    ...         for kernel in parameters[:-1]:
    ...             x = jax.nn.relu(x @ kernel)
    ...         return (x @ parameters[-1]).mean()
    ...     return loss, kernels, (np.ones((4, width), np.float32),)
    >>> found = scaling(make, sizes=[16, 32, 64])
    >>> found[found.quantity == "signal"].word.tolist()
    ['GROWS', 'GROWS']
    """
    if isinstance(what, xr.Dataset):
        return slopes(check_runs(what, over, steps))
    if "sizes" not in networks:
        raise FadeoutError("scaling of your own networks needs their sizes: sizes=[32, 64, 128]")
    return slopes(check_networks(what, steps=steps, over=over, **networks))


def slopes(check: Check) -> pd.DataFrame:
    """The slope of every quantity, as `scaling` gives it."""
    rows = []
    axis = np.log10(check.sizes.astype(float))
    axis = axis - axis.mean()

    def slope_of(values: np.ndarray) -> np.ndarray:
        """Fits a slope to what stands at each size, [size ...]."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.einsum("s,s...->...", axis, np.log10(values)) / (axis @ axis)

    for name, (values, wanted, expected) in check.quantities.items():
        each = slope_of(values)  # seed step position
        known = np.full(wanted.shape, np.nan) if expected is None else slope_of(expected)
        for n, step in enumerate(check.steps):
            for p, position in enumerate(check.positions):
                low, value, high = mean_interval(each[:, n, p], flags=False)
                rows.append({
                    "quantity": name, "position": position, "step": step, "slope": value,
                    "low": low, "high": high, "wanted": wanted[p],
                    "theory": known[p] if step == 0 else np.nan,
                    "word": _word(low, value, high, wanted[p], np.isfinite(each[:, n, p]).all()),
                })  # fmt: skip
    return pd.DataFrame(rows)


def _word(low: float, slope: float, high: float, wanted: float, finite: bool) -> str:
    """One word for a slope: PASS within `_TOLERANCE` of what is wanted, with an interval within
    twice that; none where nobody knows what is wanted."""
    if not finite:
        return "not finite"
    if np.isnan(wanted):
        return ""
    near = max(high - wanted, wanted - low) <= 2 * _TOLERANCE  # NaN of a single seed is not
    if abs(slope - wanted) <= _TOLERANCE and near:
        return "PASS"
    if low > wanted + _TOLERANCE:
        return "GROWS"
    return "SHRINKS" if high < wanted - _TOLERANCE else "undecided"
