"""What is said to help the gradient through, and what measures it."""

import numpy as np
import xarray as xr

from fadeout.analysis.intervals import share_interval
from fadeout.analysis.slopes import least_squares_slope
from fadeout.claims.rules import Finding
from fadeout.claims.select import (
    DECADES,
    cases,
    compare_by_seed,
    decades_lost,
    difference_of_means,
    learns,
    mean_of_networks,
    select_runs,
    share_of_solved,
)
from fadeout.theory.remedies import branch_factor, profile

GAINED = "decades of delta gained in all"


def _lost_per_layer(runs: xr.Dataset, condition: str) -> Finding:
    """Beside what theory expects, which for batch normalisation is nothing."""
    first = runs.isel(run=0)
    variance, depth = float(first["weight_variance"]), int(first["depth"])
    scale, normalization = str(first["residual_scale"].values), str(first["normalization"].values)
    expected = None
    if normalization != "batch":
        branch = branch_factor(float(first["residual"]), scale, depth)
        known = profile(str(first["activation"].values), depth, variance, 0.0, variance, branch,
                        normalization != "none")  # fmt: skip
        expected = float(least_squares_slope(known.gradient))
    return Finding(DECADES, condition, mean_of_networks(decades_lost(runs)), expected)


def _by_activation(results: xr.Dataset, **remedy) -> list[Finding]:
    """Decades lost per layer with a remedy, and without any, which judges nothing."""
    findings = []
    for (activation,), runs in cases(select_runs(results, **remedy), "activation"):
        findings.append(_lost_per_layer(runs, activation))
    plain = select_runs(results, residual=0.0, normalization="none")
    for (activation,), runs in cases(plain, "activation"):
        finding = _lost_per_layer(runs, activation)
        findings.append(finding._replace(quantity=f"{DECADES}, plain"))
    return findings


def residual_cures(results: xr.Dataset) -> list[Finding]:
    return _by_activation(results, residual=1.0, normalization="none")


def layernorm_cures(results: xr.Dataset) -> list[Finding]:
    return _by_activation(results, residual=0.0, normalization="layer")


def batchnorm_cures(results: xr.Dataset) -> list[Finding]:
    return _by_activation(results, residual=0.0, normalization="batch")


def residual_scale(results: xr.Dataset) -> list[Finding]:
    """Measures how much delta grows from top to bottom, with plain and with scaled branches."""
    findings = []
    words = {"constant": "branches as they are", "sqrt_depth": "branches over sqrt(depth)"}
    for (scale, activation, depth), runs in cases(results, "residual_scale", "activation", "depth"):
        per_layer = _lost_per_layer(runs, "")
        across = -(depth - 1)
        gained = mean_of_networks(across * decades_lost(runs))
        expected = None if per_layer.expected is None else across * per_layer.expected
        condition = f"{activation}, {depth} layers"
        findings.append(Finding(f"{GAINED}, {words[str(scale)]}", condition, gained, expected))
    return findings


def rezero(results: xr.Dataset) -> list[Finding]:
    findings = []
    for (activation, depth), runs in cases(results, "activation", "depth"):
        condition = f"{activation}, {depth} layers"
        findings.append(Finding("share solved", condition, share_interval(share_of_solved(runs))))
    return findings


def clipping_cures(results: xr.Dataset) -> list[Finding]:
    """Compares learning with and without clipping, each at its best learning rate.

    Half of the seeds choose the rate, the other half measure.
    """
    findings = []
    clipped = np.isfinite(results["clip"].values)
    for words, chosen in (("clipped", clipped), ("as it is", ~clipped)):
        runs = results.isel(run=chosen)
        best = max(
            cases(select_runs(runs, half="even"), "learning_rate"),
            key=lambda case: learns(case[1]).mean(),
        )[0][0]
        own = select_runs(runs, learning_rate=best, half="odd")
        learnt = share_interval(learns(own))
        findings.append(Finding(f"networks that learn, gradient {words}", f"rate {best:g}", learnt))
    return findings


def adam_ignores(results: xr.Dataset) -> list[Finding]:
    """Compares Adam on a task whose gradient vanishes with Adam on one whose gradient is level."""
    findings = []
    for (depth, optimizer), runs in cases(results, "depth", "optimizer"):
        level, vanishing = (
            select_runs(runs, init="critical"),
            select_runs(runs, init="glorot_normal"),
        )
        less = compare_by_seed(
            difference_of_means,
            (share_of_solved(vanishing).astype(float), vanishing),
            (share_of_solved(level).astype(float), level),
        )  # fmt: skip
        words = "share solved, vanishing gradients less level ones"
        quantity = words if optimizer == "adam" else f"{words}, {optimizer}"
        findings.append(Finding(quantity, f"{depth} layers", less))
    return findings


def rmsprop_size(results: xr.Dataset) -> list[Finding]:
    """Measures who solves the task whose gradient vanishes, by where RMSprop adds eps."""
    findings = []
    for (inside,), runs in cases(results, "eps_in_sqrt"):
        condition = "sqrt(v + eps)" if inside else "sqrt(v) + eps"
        findings.append(Finding("share solved", condition, share_interval(share_of_solved(runs))))
    return findings
