"""What papers and textbooks say, and what measures it."""

import math

import numpy as np
import xarray as xr

from fadeout.analysis.intervals import Interval, bootstrap, exact, share_interval
from fadeout.analysis.slopes import least_squares_slope
from fadeout.claims.rules import Finding
from fadeout.claims.select import (
    DECADES,
    cases,
    decades_lost,
    learns,
    mean_of_networks,
    ratio_of_means,
    select_runs,
    share_of_solved,
)
from fadeout.theory.finite_width import log_gradient_moments
from fadeout.theory.gaussian import moments, value_and_slope
from fadeout.theory.mean_field import (
    chi,
    depth_scales,
    fixed_point,
    gradient_profile,
    spread_added,
    variances,
)


def weight_gradients_hide(results: xr.Dataset) -> list[Finding]:
    """Compares the decades that weight gradients lose with those that delta loses, at the standard
    weight variances.

    From the second layer on: the first has another fan-in, and its gradient another size for that.
    """
    findings = []
    standard = results["weight_variance"].isin([1.0])
    for (activation,), runs in cases(results.isel(run=standard.values), "activation"):
        lost = {name: decades_lost(runs, name, 2) for name in ("delta_norm", "gradient_norm")}
        shown = bootstrap(ratio_of_means, lost["gradient_norm"], lost["delta_norm"], paired=True)
        findings += [
            Finding("loss that weight gradients show of delta's", activation, shown),
            Finding(DECADES, activation, mean_of_networks(lost["delta_norm"])),
        ]
    return findings


def he_30(results: xr.Dataset) -> list[Finding]:
    findings = []
    for (init, optimizer), runs in cases(results, "init", "optimizer"):
        name = {"glorot_normal": "Xavier", "he_normal": "He"}[init]
        learnt = share_interval(learns(runs))
        findings.append(Finding(f"networks that learn with {name}", optimizer, learnt))
    return findings


def _from_top_to_bottom(results: xr.Dataset) -> list[Finding]:
    """Decades that delta loses over the whole depth."""
    findings = []
    for (activation, depth, variance), runs in cases(
        results, "activation", "depth", "weight_variance"
    ):
        lost = decades_lost(runs) * (depth - 1)
        profile = gradient_profile(activation, depth, variance, variance=variance)
        expected = float(least_squares_slope(profile)) * (depth - 1)
        condition = f"{activation}, weight variance {variance:g}, {depth} layers"
        findings.append(
            Finding("decades of delta lost in all", condition, mean_of_networks(lost), expected)
        )
    return findings


def selu_stable(results: xr.Dataset) -> list[Finding]:
    return _from_top_to_bottom(select_runs(results, activation="selu", weight_variance=1.0))


def fuzzy_default(results: xr.Dataset) -> list[Finding]:
    he = select_runs(results, weight_variance=2.0)
    return _from_top_to_bottom(he.isel(run=he["activation"].isin(["gelu", "silu"]).values))


def narrow_deep(results: xr.Dataset) -> list[Finding]:
    """How far delta strays over 30 layers, a dead network farthest of all, and of the living log R
    of a layer against its exact moments."""
    findings = []
    for (width,), runs in cases(results, "width"):
        (depth,) = np.unique(runs["depth"].values)
        norms = runs["delta_norm"].sel(step=0, layer=slice(1, int(depth))).values
        living = (norms > 0).all(1)
        logs = 2 * np.log(norms[living])
        factors = logs[:, :-1] - logs[:, 1:]
        strays = ~living
        strays[living] = np.abs(logs[:, 0] - logs[:, -1]) > 2 * math.log(10)
        average, variance = log_gradient_moments(int(width), 2.0)
        condition = f"width {width}"
        findings += [
            Finding(f"networks whose delta changes tenfold over {depth} layers", condition,
                    share_interval(strays)),
            Finding("mean of log R per layer", condition, _normal_mean(factors.ravel()), average),
            Finding(f"variance of the mean log R of {depth - 1} layers", condition,
                    bootstrap(_variance_of, factors.mean(1)), variance / (depth - 1)),
        ]  # fmt: skip
    return findings


def _normal_mean(values: np.ndarray) -> Interval:
    """The mean of many independent values, with its interval by the central limit theorem."""
    middle = float(values.mean())
    reach = 1.959963984540054 * float(values.std(ddof=1)) / math.sqrt(values.size)
    return Interval(middle - reach, middle, middle + reach)


def _variance_of(values, axis):
    return np.var(values, axis=axis, ddof=1)


def six_xi(results: xr.Dataset) -> list[Finding]:
    """Compares the runs that 6 xi_c calls trainable with the others, by the share that solve the
    task."""
    groups: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    for (variance, depth), runs in cases(results, "weight_variance", "depth"):
        (bias,) = np.unique(runs["bias_variance"].values)
        q = fixed_point("tanh", variance, bias)
        phase = "ordered" if chi("tanh", q, variance) < 1 else "chaotic"
        reach = 6 * depth_scales("tanh", variance, bias).correlation
        where_it_lies = "shallower" if depth < reach else "deeper"
        own_cell = share_of_solved(runs), runs["seed"].values
        groups.setdefault((where_it_lies, phase), []).append(own_cell)
    findings = []
    for side in ("shallower", "deeper"):
        quantity = f"networks solved that are {side} than six xi_c"
        own = {phase: flags for (where_it, phase), flags in groups.items() if where_it == side}
        cells = [cell for flags in own.values() for cell in flags]
        pooled = _pooled_share(cells)
        findings.append(Finding(quantity, f"{len(cells)} cells", pooled))
        findings += [
            Finding(
                f"{quantity}, by phase",
                f"{phase}, {len(flags)} cells",
                _pooled_share(flags),
            )
            for phase, flags in own.items()
        ]
    return findings


def _pooled_share(cells: list[tuple[np.ndarray, np.ndarray]]) -> Interval:
    """The share over several cells, each with its flags and their seeds, which the cells share."""
    flags, seeds = (np.concatenate(parts) for parts in zip(*cells, strict=True))
    return share_interval(flags, seeds)


_EARLY = 8
"""Layers over which a spread still grows in proportion: width 64 bounds it."""


def isometry(tanh: xr.Dataset, relu: xr.Dataset) -> list[Finding]:
    """Measures what each layer adds to the spread of the Jacobian's squared singular values."""
    findings = []
    for results in (tanh, relu):
        for (activation, init), runs in cases(results, "activation", "init"):
            (gain,), (width,) = np.unique(runs["gain"].values), np.unique(runs["width"].values)
            spread = runs["jacobian_spread"].sel(step=0, layer=1 + _EARLY).values / _EARLY
            kernels = "orthogonal" if init == "orthogonal" else "Gaussian"
            quantity = f"spread added per layer, {activation}"
            if activation == "tanh" and kernels == "Gaussian":
                quantity += " with Gaussian kernels"
            expected = _spread_per_layer(activation, kernels, gain, width)
            findings.append(
                Finding(quantity, f"{kernels} kernels", mean_of_networks(spread), expected)
            )
    return findings


def _spread_per_layer(activation: str, kernels: str, gain: float, width: int) -> float:
    """Returns the predicted growth per layer, averaged over all layers after the first.

    Two inputs of +-1 through an orthogonal kernel share their norm among all units; through a
    Gaussian one each unit has it.
    """
    variance = gain**2 * (2 / width if kernels == "orthogonal" else 1.0)
    layers = variances(activation, _EARLY, gain**2, variance=variance)
    added = [spread_added(moments(activation, q), kernels == "orthogonal") for q in layers]
    return float(np.mean(added))


def two_units(results: xr.Dataset) -> list[Finding]:
    """Measures who solves XOR with one hidden unit, by whether the activation is monotone."""
    names = np.unique(results["activation"].values).tolist()
    grid = np.linspace(-10, 10, 4001)
    monotone = [name for name in names if np.all(np.diff(value_and_slope(name, grid)[0]) >= -1e-12)]
    findings = []
    for kind, members in (
        ("monotone", monotone),
        ("non-monotone", [name for name in names if name not in monotone]),
    ):
        runs = results.isel(run=results["activation"].isin(members).values)
        words = f"{kind}: {len(members)} activations"
        pooled = share_interval(share_of_solved(runs), runs["seed"].values)
        findings.append(Finding("share solved by one unit", words, pooled))
        for (activation,), own in cases(runs, "activation"):
            name = f"share solved by one {kind} unit"
            findings.append(Finding(name, activation, share_interval(share_of_solved(own))))
    return findings


def parity_hard(results: xr.Dataset) -> list[Finding]:
    """Shalev-Shwartz's identity at random networks, and who learns parity by gradients."""
    findings = []
    for bits in range(2, 11):
        told, total = parity_signal(bits)
        expected = 2.0**-bits
        findings.append(
            Finding("gradient that depends on the parity", f"{bits} bits", exact(told / total),
                    expected)
        )  # fmt: skip
    for (bits,), runs in cases(results, "bits"):
        findings.append(
            Finding("share solved", f"{bits:g} bits", share_interval(share_of_solved(runs)))
        )
    return findings


def parity_signal(bits: int, width: int = 16) -> tuple[float, float]:
    """The mean over all parities h of ||E_x[h grad p]||^2, and E ||grad p||^2.

    Of a random tanh network p(x) = v tanh(W x) on {-1, 1}^bits. The first is 2^-bits of the second,
    whatever p is (Shalev-Shwartz 2017): the parities are orthonormal.
    """
    from scipy.linalg import hadamard  # a slow import, where it is needed

    rng = np.random.default_rng(bits)
    inputs = 1.0 - 2 * ((np.arange(2**bits)[:, None] >> np.arange(bits)) & 1)
    kernel, readout = rng.normal(size=(bits, width)) / math.sqrt(bits), rng.normal(size=width)
    hidden = np.tanh(inputs @ kernel)
    of_kernel = inputs[:, :, None] * ((1 - hidden**2) * readout)[:, None, :]
    gradients = np.column_stack([hidden, of_kernel.reshape(2**bits, -1)])
    correlated = hadamard(2**bits) @ gradients / 2**bits
    return float((correlated**2).sum(1).mean()), float((gradients**2).sum(1).mean())
