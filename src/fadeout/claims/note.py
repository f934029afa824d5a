"""What the lecture note says, and what measures it."""

import math

import numpy as np
import xarray as xr
from scipy.special import expit

from fadeout.analysis.intervals import Interval, bootstrap, exact, share_interval
from fadeout.analysis.slopes import least_squares_slope
from fadeout.claims.rules import Finding
from fadeout.claims.select import (
    DECADES,
    cases,
    compare_by_seed,
    decades_lost,
    difference_of_means,
    mean_of_networks,
    ratio_of_means,
    ratio_of_medians,
    select_runs,
    share_of_solved,
)
from fadeout.sweeps.results import final_values
from fadeout.theory.finite_width import dead_probability
from fadeout.theory.gaussian import moments, value_and_slope
from fadeout.theory.mean_field import critical, gradient_profile

LEVEL = 0.05
"""Decades a layer below which a gradient counts as level: a tenth of it is left after 20 layers."""


def sigmoid_formula() -> list[Finding]:
    """The formula as the text writes it against the activation that trains; its code's beside."""
    x = np.linspace(-8, 8, 1601)
    sigmoid, slope = value_and_slope("sigmoid", x)
    findings = []
    for sign, words, more in (
        (1, "1 / (1 + e^x), as the text writes", ""),
        (-1, "1 / (1 + e^-x), as its code does", ", of the code"),
    ):
        written = 1 / (1 + np.exp(sign * x))
        rise = float(np.gradient(written, x)[x.size // 2])
        distance = float(np.abs(written - sigmoid).max())
        findings += [
            Finding(f"largest distance from the sigmoid{more}", words, exact(distance), 0.0),
            Finding(f"slope at 0{more}", words, exact(rise), float(slope[x.size // 2])),
        ]
    return findings


def neuron_fuzziness(draws: int = 100_000) -> list[Finding]:
    """How often a threshold fires, with standard logistic noise on its input and without.

    With it the rate is exactly the sigmoid of the input.
    """
    rng = np.random.default_rng(0)
    findings = []
    for noise, words in ((1.0, "noisy threshold"), (0.0, "hard threshold")):
        for x in (-4.0, -2.0, 0.0, 2.0, 4.0):
            rate = share_interval(x + noise * rng.logistic(size=draws) > 0)
            expected = float(expit(x))
            error = Interval(*(end - expected for end in rate))
            condition = f"{words}, input {x:g}"
            findings += [
                Finding("firing rate", condition, rate, expected),
                Finding("firing rate less sigmoid(input)", condition, error, 0.0),
            ]
    return findings


def step_untrainable(results: xr.Dataset) -> list[Finding]:
    """The gradient of the hidden kernels, and who solves XOR nevertheless, by the readout alone.

    With random hidden units fixed, the share solved is at most that of units in whose outputs XOR
    is linearly separable.
    """
    own = select_runs(results, surrogate="none")
    reached = own["gradient_norm"].sel(layer=own["depth"])
    findings = [
        Finding("largest gradient of a hidden kernel", "step", exact(float(reached.max())), 0.0)
    ]
    for (width,), runs in cases(own, "width"):
        expected = separable_share(width)
        findings.append(
            Finding(
                "share solved", f"{width} units", share_interval(share_of_solved(runs)), expected
            )
        )
    for (width,), runs in cases(select_runs(results, surrogate="sigmoid"), "width"):
        name = "share solved with a sigmoid's slope in the backward pass"
        findings.append(Finding(name, f"{width} units", share_interval(share_of_solved(runs))))
    return findings


def separable_share(width: int, draws: int = 4000) -> float:
    """The share of random step units in whose outputs XOR is linearly separable."""
    rng = np.random.default_rng(width)
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    kernels = rng.normal(0, math.sqrt(0.5), (draws, 2, width))
    fires = corners @ kernels + rng.normal(size=(draws, 1, width)) > 0
    known: dict[bytes, bool] = {}
    count = 0
    for features in fires:
        distinct = np.unique(features, axis=1)
        key = distinct.tobytes()
        if key not in known:
            known[key] = separable(distinct, np.array([0, 1, 1, 0]))
        count += known[key]
    return count / draws


def separable(features: np.ndarray, targets: np.ndarray) -> bool:
    """Returns whether some affine readout of the features [example, unit] has every sign right."""
    from scipy.optimize import linprog  # a slow import, where it is needed

    signs = np.where(targets > 0, 1.0, -1.0)[:, None]
    rows = -signs * np.column_stack([features, np.ones(len(features))])
    answer = linprog(
        np.zeros(rows.shape[1]), A_ub=rows, b_ub=-np.ones(len(rows)), bounds=(None, None)
    )
    return answer.status == 0


def _slope_findings(results: xr.Dataset, quantity: str = DECADES) -> list[Finding]:
    """Decades of delta lost per layer beside mean field's, by activation and weight variance."""
    findings = []
    for (activation, variance), runs in cases(results, "activation", "weight_variance"):
        (depth,) = np.unique(runs["depth"].values)
        expected = least_squares_slope(
            gradient_profile(activation, depth, variance, variance=variance)
        )
        condition = f"{activation}, weight variance {variance:.3g}"
        findings.append(
            Finding(quantity, condition, mean_of_networks(decades_lost(runs)), float(expected))
        )
    return findings


def sigmoid_saturation(results: xr.Dataset) -> list[Finding]:
    """Tests whether delta shrinks where units are saturated, and only there."""
    findings = []
    for (variance,), runs in cases(select_runs(results, activation="sigmoid"), "weight_variance"):
        saturated = mean_of_networks(runs["saturation"].sel(step=0).mean("layer").values)
        kind = "some"
        if saturated.low > 0.5:
            kind = "most"
        elif saturated.high < 0.01:
            kind = "no"
        (found,) = _slope_findings(runs, f"{DECADES}, {kind} units saturated")
        condition = f"weight variance {variance:.3g}"
        findings += [
            found._replace(condition=condition),
            Finding("saturated units", condition, saturated),
        ]
    return findings


def init_avoids_saturation(results: xr.Dataset) -> list[Finding]:
    """Networks that are neither saturated nor vanishing, as usual and on the edge of chaos."""
    findings = []
    (edge,) = (point for point in critical("sigmoid") if point.variance > 0)
    for (init,), runs in cases(results, "init"):
        variance = edge.weight_variance if init == "critical" else 1.0
        words = f"{init}, weight variance {variance:.3g}"
        saturated = runs["saturation"].sel(step=0).mean("layer").values
        lost = decades_lost(runs)
        spared = (saturated < 0.05) & (lost < LEVEL)
        findings += [
            Finding("neither saturated nor vanishing", words, share_interval(spared)),
            Finding("saturated units", words, mean_of_networks(saturated)),
            Finding(DECADES, words, mean_of_networks(lost)),
            Finding("share solved", words, share_interval(share_of_solved(runs))),
        ]
    return findings


def one_sided_gradients(results: xr.Dataset) -> list[Finding]:
    """Measures the share of living units whose weight gradients all have one sign, where the inputs
    are activations."""
    findings = []
    for (activation, examples), runs in cases(results, "activation", "examples"):
        (depth,) = np.unique(runs["depth"].values)
        start = runs.sel(step=0, layer=slice(2, int(depth)))
        reached = 1 - start["dead_units"].mean("layer").values
        with np.errstate(invalid="ignore"):
            values = start["one_sided"].mean("layer").values / reached
        condition = f"{activation}, {examples:g} example{'s' * (examples != 1)}"
        quantity = "units with one-sided gradients"
        if activation == "tanh":
            quantity += ", outputs centred"
        findings.append(Finding(quantity, condition, mean_of_networks(values)))
    return findings


def zigzag(results: xr.Dataset) -> list[Finding]:
    """Steps to a tenth of the loss, and the way of the first kernel until then, from inputs {0, 1}
    against inputs of the same size around 0, each at its best rate. {-1, 1} stands beside: it is
    centred and larger.

    The rate is chosen by the even seeds, and measured by the odd ones.
    """
    best: dict[str, tuple[float, np.ndarray, np.ndarray, xr.Dataset]] = {}
    for (inputs,), own in cases(results, "inputs"):
        chosen = min(
            cases(own, "learning_rate"),
            key=lambda case: np.median(_steps_to_tenth(select_runs(case[1], half="even"))[0]),
        )
        odd = select_runs(chosen[1], half="odd")
        best[inputs] = chosen[0][0], *_steps_to_tenth(odd), odd
    raw = best["binary"]
    findings = []
    for inputs, words, more in (
        ("centred", "{-1/2, 1/2}", ""),
        ("bipolar", "{-1, 1}", ", centred and larger"),
    ):
        rate, steps, detour, runs = best[inputs]
        condition = f"against {words}, learning rates {raw[0]:g} and {rate:g}"
        findings += [
            Finding(f"steps from {{0, 1}} over the other's{more}", condition,
                    compare_by_seed(ratio_of_medians, (raw[1], raw[3]), (steps, runs))),
            Finding(f"path over displacement, the same{more}", condition,
                    compare_by_seed(ratio_of_medians, (raw[2], raw[3]), (detour, runs))),
        ]  # fmt: skip
    return findings


def _steps_to_tenth(runs: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Per run, the step at which a tenth of the loss is left, inf where it never is, and path over
    displacement of the first kernel then."""
    loss = runs["loss"].transpose("run", "step").values
    below = loss <= 0.1 * loss[:, :1]
    steps = np.where(below.any(1), runs["step"].values[below.argmax(1)], np.inf)
    at = xr.DataArray(np.where(below.any(1), below.argmax(1), -1), dims="run")
    ways = [
        runs[name].sel(layer=1).isel(step=at).values for name in ("path_length", "displacement")
    ]
    return steps, ways[0] / ways[1]


def relu_no_vanishing(results: xr.Dataset) -> list[Finding]:
    return _slope_findings(
        results.isel(
            run=((results["activation"] == "relu") & (results["weight_variance"] <= 2)).values
        )
    )


def relu_faster(results: xr.Dataset) -> list[Finding]:
    """Relu against its two predecessors, by optimiser and width, each at the initialiser and the
    learning rate that suit it best.

    Those are chosen by the even seeds (most networks that solve the task, then fewest steps), and
    measured by the odd ones.
    """
    findings = []
    for (optimizer, width), runs in cases(results, "optimizer", "width"):
        best = {}
        for (activation,), own in cases(runs, "activation"):
            settings = [part for _, part in cases(own, "init", "learning_rate")]
            best[activation] = select_runs(max(settings, key=_speed_by_seed), half="odd")
        relu = best["relu"]
        for rival in ("sigmoid", "tanh"):
            other = best[rival]
            condition = f"{optimizer}, {width} units, {rival}"
            steps = [
                (own["solved_step"].values, own) for own in map(_solved_findings, (relu, other))
            ]
            shares = [(share_of_solved(own).astype(float), own) for own in (relu, other)]
            more = compare_by_seed(difference_of_means, *shares)
            findings += [
                Finding("median steps to solve, relu's over the other's", condition,
                        compare_by_seed(ratio_of_medians, *steps)),
                Finding("share solved, relu's less the other's", condition, more),
            ]  # fmt: skip
    return findings


def _speed_by_seed(runs: xr.Dataset) -> tuple[float, float]:
    """How well the even seeds fare: the share solved, in steps of a tenth, and then the speed."""
    even = select_runs(runs, half="even")
    steps = even["solved_step"].values[share_of_solved(even)]
    return round(float(share_of_solved(even).mean()), 1), -float(
        np.median(steps)
    ) if steps.size else -np.inf


def _solved_findings(runs: xr.Dataset) -> xr.Dataset:
    return runs.isel(run=share_of_solved(runs))


def relu_dies(units: xr.Dataset, networks: xr.Dataset) -> list[Finding]:
    """Units that no corner of XOR reaches, at birth and after training, and networks that one input
    cannot pass, at birth."""
    findings = []
    for (inputs,), runs in cases(units, "inputs"):
        (width,) = np.unique(runs["width"].values)
        dead = np.rint(runs["dead_units"].sel(step=0, layer=1).values * width)
        flags = (np.arange(width) < dead[:, None]).ravel()
        expected = {"binary": 0.25, "bipolar": 0.0}[inputs]
        words = {"binary": "inputs {0, 1}", "bipolar": "inputs {-1, 1}"}[inputs]
        findings.append(Finding("units born dead", words, share_interval(flags), expected))
        dead = np.rint(final_values(runs["dead_units"]).sel(layer=1).values * width)
        later = share_interval(
            (np.arange(width) < dead[:, None]).ravel(), np.repeat(runs["seed"].values, width)
        )
        findings.append(Finding("units dead after training", words, later))
    for (width,), runs in cases(networks, "width"):
        (depth,) = np.unique(runs["depth"].values)
        dead = (runs["dead_units"].sel(step=0) >= 1).any("layer").values
        expected = dead_probability(*[int(width)] * int(depth))
        condition = f"{depth} layers of {width} units, one input"
        findings.append(Finding("networks born dead", condition, share_interval(dead), expected))
    return findings


def relu_not_centred(results: xr.Dataset) -> list[Finding]:
    """The mean of relu's outputs over the deviation of its preactivations; tanh's mean beside it.

    The deviation follows from the outputs themselves: E phi^2 = q/2.
    """
    findings = []
    for (activation,), runs in cases(results, "activation"):
        start = runs.sel(step=0)
        for layer in np.unique(runs["layer"].values)[:-1]:
            average = start["activation_mean"].sel(layer=layer).values
            power = average**2 + start["activation_std"].sel(layer=layer).values ** 2
            condition = f"{activation}, layer {layer}"
            if activation == "relu":
                name, scale = "mean output over the deviation of the input", np.sqrt(2 * power)
                expected = 1 / math.sqrt(2 * math.pi)
            else:
                name, scale = "mean output over its root mean square", np.sqrt(power)
                expected = round(moments(activation, 1.0).value, 12) + 0.0
            findings.append(Finding(name, condition, mean_of_networks(average / scale), expected))
    return findings


def decay_per_layer(results: xr.Dataset) -> list[Finding]:
    """Tests whether delta shrinks layer by layer, and as a power (each layer alike) or slower.

    Exponential decay loses as much per layer in the lower half of the network as in the upper.
    """
    saturating = results["activation"].isin(["sigmoid", "tanh"])
    runs = results.isel(run=(saturating & (results["weight_variance"] <= 2)).values)
    findings = _slope_findings(runs)
    for (activation, variance), group in cases(runs, "activation", "weight_variance"):
        (depth,) = np.unique(group["depth"].values)
        logs = np.log10(group["delta_norm"].sel(step=0, layer=slice(1, int(depth))).values)
        profile = gradient_profile(activation, int(depth), variance, variance=variance)
        measured = bootstrap(ratio_of_means, *_halves(logs), paired=True)
        findings.append(
            Finding(
                "decades lost per layer in the lower half over those in the upper",
                f"{activation}, weight variance {variance:.3g}",
                measured,
                float(np.divide(*_halves(profile))),
            )
        )
    return findings


def _halves(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the decades lost per layer in the lower and in the upper half of the network."""
    middle, top = logs.shape[-1] // 2, logs.shape[-1] - 1
    lower = (logs[..., middle] - logs[..., 0]) / middle
    return lower, (logs[..., top] - logs[..., middle]) / (top - middle)
