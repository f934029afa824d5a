"""What to choose before anything is trained: theory's word on initialisers and remedies."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fadeout import theory
from fadeout.analysis.predictions import BOOLEAN
from fadeout.analysis.verdicts import EXPLODING, VANISHING
from fadeout.config import (
    MOST_DEPTH,
    MOST_WIDTH,
    Activation,
    Init,
    Model,
    Run,
    Task,
    Training,
)
from fadeout.networks.activations import ACTIVATIONS, bind_static
from fadeout.networks.initializers import OWN_BIASES, variance_scaling
from fadeout.registry import FadeoutError, format_value, function_name, lookup, parameters
from fadeout.schema import convert_value
from fadeout.sweeps.sweep import train_in_memory
from fadeout.training.resolve import resolve

_MEASURED_SEEDS = 8


class _Candidate(NamedTuple):
    """Something to choose.

    Attributes:
      words: as the command line takes it.
      weight_variance: times the fan-in, of the hidden kernels.
      init, model: what of a run says so.
      branch: of its residual branches.
    """

    words: str
    weight_variance: float
    init: Init
    model: dict[str, Any]
    branch: float | None = None

    @property
    def normalised(self) -> bool:
        return "normalization" in self.model


def _candidates(phi: Any, depth: int, bias_variance: float) -> list[_Candidate]:
    """The usual initialisers, those that follow from the activation, and remedies."""
    square = theory.moments(phi, 1.0).square
    auto = 1 / square if 0 < square < math.inf else 1.0
    found = [
        _Candidate("init=glorot_normal, lecun_normal", 1.0, Init("lecun_normal"), {}),
        _Candidate("init=he_normal", 2.0, Init("he_normal"), {}),
        _Candidate("init=torch", 1 / 3, Init("mean_field", weight_variance=1 / 3), {}),
        _Candidate(
            "init=lecun_normal init.gain=auto", auto, Init("lecun_normal", gain=auto**0.5), {}
        ),
    ]
    for point in theory.critical(phi, bias_variance):
        init = Init("mean_field", weight_variance=point.weight_variance)
        found.append(_Candidate("init=critical", point.weight_variance, init, {}))
    usual = found[0]
    shrunk = theory.branch_factor(1.0, "sqrt_depth", depth)
    found += [
        usual._replace(words="model.residual=1", model={"residual": 1.0}, branch=1.0),
        usual._replace(
            words="model.residual=1 model.residual_scale=sqrt_depth",
            model={"residual": 1.0, "residual_scale": "sqrt_depth"}, branch=shrunk,
        ),
        usual._replace(words="model.normalization=layer", model={"normalization": "layer"}),
    ]  # fmt: skip
    return found


def advise(
    activation: str | Any,
    depth: int = 50,
    width: int = 64,
    bias_variance: float = 0.0,
    measure: bool = False,
    **options: Any,
) -> pd.DataFrame:
    """Returns what theory expects of a deep network before training, for each initialiser and
    remedy.

    Args:
      activation: by name, with its `options`; or a function.
      bias_variance: of all layers.
      measure: also draws networks of this width, and measures them.

    Returns:
      A row for each choice: its `weight_variance`; the last layer's `variance` of inputs of mean
      square 1; `chi`, the mean squared gain of delta in the last layer; `decades`, log10 of the
      first hidden layer's delta norm over the last's, and with `measure` the `measured` median;
      `reach`, 6 xi_c, the depth up to which inputs can be told apart (Schoenholz 2017); the
      `born_dead` share of networks; and a `word`, which follows what was measured where that is
      asked for. The attribute `advice` says what to choose.

    Raises:
      FadeoutError: an unknown activation, one that theory cannot judge, a depth below 2, or options
        and variances that are none.

    >>> found = advise("relu", depth=30)
    >>> found.loc["init=he_normal", "word"], found.attrs["advice"].split(":")[0]
    ('healthy', 'init=he_normal')
    """
    _check_size(depth, width)
    if not isinstance(measure, bool):
        raise FadeoutError(f"measure must be true or false, not {format_value(measure)}")
    if isinstance(bias_variance, bool):
        raise FadeoutError(f"a variance is a number of 0 or more, not {bias_variance}")
    number = isinstance(bias_variance, int | float) and abs(bias_variance) < 1e300
    if not (number and bias_variance >= 0):
        raise FadeoutError(
            f"a variance is a number of 0 or more, not {format_value(bias_variance)}"
        )
    function: Any = activation
    if isinstance(activation, Activation):
        function, options = activation.name, dict(activation.options) | options
    if isinstance(function, str):
        function = lookup(ACTIVATIONS, function, "activation")
    if not callable(function):
        raise FadeoutError(f"an activation is a name or a function, not {format_value(activation)}")
    known_options = parameters(function)
    unknown = options.keys() - known_options.keys()
    if unknown:
        raise FadeoutError(f"{function_name(function)} has no {' and no '.join(sorted(unknown))}")
    options = {
        key: convert_value(value, known_options[key].kind, f"{function_name(function)}.{key}")
        for key, value in options.items()
    }
    phi = theory.function_of(bind_static(function, tuple(sorted(options.items()))))
    known = theory.moments(phi, 1.0)
    if not (np.isfinite([known.square, known.slope_square]).all() and known.slope_square > 0):
        raise FadeoutError(
            f"theory cannot judge {activation}: of a standard normal input, E phi^2 is "
            f"{known.square:g} and E phi'^2 {known.slope_square:g}"
        )
    rows = {}
    for choice in _candidates(phi, depth, bias_variance):
        row = _expected_row(phi, choice, depth, width, bias_variance)
        if measure:
            chosen = Activation(activation, **options)
            row["measured"] = _measured_decades(chosen, choice, depth, width, bias_variance)
        rows[choice.words] = row | {"word": _verdict_word(row, depth)}
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.attrs["advice"] = _advice_sentence(frame)
    return frame


def _expected_row(
    phi: Any, choice: _Candidate, depth: int, width: int, bias_variance: float
) -> dict:
    sw2 = choice.weight_variance
    found = theory.profile(
        phi, depth, sw2, bias_variance, sw2 + bias_variance, choice.branch, choice.normalised
    )
    plain = choice.branch is None and not choice.normalised
    reach = 6 * theory.depth_scales(phi, sw2, bias_variance).correlation if plain else math.nan
    return {
        "weight_variance": sw2,
        "variance": found.variances[-1],
        "chi": found.gains[-1],
        "decades": found.gradient[0],
        "reach": reach,
        "born_dead": _born_dead_share(phi, depth, width)
        if plain and not bias_variance
        else math.nan,
    }


def _born_dead_share(phi: Any, depth: int, width: int) -> float:
    """The share of networks some layer of which is born dead at one input; NaN of activations that
    are not flat for all negative inputs, and only for those."""
    _, slope = theory.value_and_slope(phi, np.concatenate([-np.geomspace(1e-3, 30, 50), [1e-3]]))
    flat = not slope[:-1].any() and slope[-1] != 0
    return theory.dead_probability(*[width] * depth) if flat else math.nan


def _measured_decades(
    activation: Activation, choice: _Candidate, depth: int, width: int, bias_variance: float
) -> float:
    """The median of the decades that the gradient gains on its way down, over the networks that any
    passes through; NaN if it is none, or fewer than half."""
    init = Init(choice.init.name, choice.init.gain, bias_variance, options=choice.init.options)
    runs = [
        Run(activation, init, Task(inputs="bipolar"), Model(depth, width, **choice.model),
            training=Training(0, 1), probes=("delta_norm",), seed=seed)
        for seed in range(_MEASURED_SEEDS)
    ]  # fmt: skip
    delta = train_in_memory(runs)["delta_norm"].isel(step=0).values
    alive = delta[(delta[:, 0] > 0) & np.isfinite(delta).any(axis=1)]
    if 2 * len(alive) < _MEASURED_SEEDS:
        return math.nan
    return float(np.median(np.log10(alive[:, 0] / alive[:, depth - 1])))


_LOUD = 1e3
"""A variance of the last layer, of inputs of 1, from which on a signal has changed its size."""


def _verdict_word(row: dict, depth: int) -> str:
    """One word, as `verdicts` has them; *forgets* where inputs cannot be told apart at the top, and
    *signal_grows* or *signal_fades* where the gradient alone keeps its size."""
    decades = row.get("measured", row["decades"])
    if "measured" in row and math.isnan(decades):
        return "dead"
    if not np.isfinite([row["variance"], decades]).all():
        return "exploding" if row["variance"] > 1 else "vanishing"
    if decades < math.log10(VANISHING) or row["variance"] < VANISHING**2:
        return "vanishing"
    if decades > math.log10(EXPLODING) or row["variance"] > EXPLODING**2:
        return "exploding"
    if row["born_dead"] > 0.5:
        return "dead"
    if row["reach"] < depth:
        return "forgets"
    if not 1 / _LOUD <= row["variance"] <= _LOUD:
        return "signal_grows" if row["variance"] > 1 else "signal_fades"
    return "healthy"


def _advice_sentence(frame: pd.DataFrame) -> str:
    """Returns the advice: an initialiser if one keeps the gradient within a decade, else the
    healthy choice that changes it least, else the least bad."""
    decades = frame["measured"] if "measured" in frame else frame["decades"]
    seen = " measured" if "measured" in frame else ""
    healthy = decades[frame["word"] == "healthy"]
    plain = healthy[~healthy.index.str.startswith("model.") & (healthy.abs() <= 1)]
    if len(healthy):
        best = plain.index[0] if len(plain) else healthy.abs().idxmin()
        alone = "" if len(plain) else "; no initialiser alone keeps it within a decade"
        kept = f"the gradient keeps its size ({healthy[best]:+.1f} decades{seen})"
        return f"{best}: {kept}{alone}"
    known = decades[np.isfinite(decades)].abs()
    if not len(known):
        return "nothing here lets a gradient through a network of this depth and width"
    best = known.idxmin()
    return (
        f"{best} is the least bad ({decades[best]:+.1f} decades{seen}, {frame.word[best]}): "
        "nothing here keeps a network of this depth healthy"
    )


HOPELESS, LONG, MOST = -6.0, 100, 2000
"""Decades of delta over a network's depth from which on few or none learn (`fadeout claims
adam-ignores`: none of 40 sigmoid networks at 7; of relu, with small steps of Adam, some do); how
many runs are worth a warning; and at how many it looks."""


def sweep_warning(runs: Sequence[Run]) -> str | None:
    """Returns a warning and a way out for a sweep that theory expects little of, else None."""
    looked = range(len(runs))
    if len(runs) > MOST:
        looked = np.linspace(0, len(runs) - 1, MOST).round().astype(int)  # type: ignore[assignment]
    cases = list(dict.fromkeys(replace(runs[i], seed=0) for i in looked))
    if not cases or not cases[0].training.steps:
        return None
    if all(_has_steep_origin(run) for run in cases):
        return (
            f"model.normalization={cases[0].model.normalization} without biases: of the example "
            "(0, 0) every z is 0, where the backward pass multiplies by up to 316 a layer; set "
            "task.inputs=bipolar or init.bias_variance=0.1"
        )
    if len(runs) < LONG:
        return None
    least = -math.inf
    for run in cases:
        found = _decades_gained(run)
        if found is None or found > HOPELESS:
            return None
        least = max(least, found)
    chosen, depth = cases[0].activation, cases[0].model.depth
    try:
        better = advise(chosen.name, depth, **dict(chosen.options)).attrs["advice"]
    except FadeoutError:
        return None
    lost = "all" if math.isinf(least) else f"{-least:.0f} decades or more"
    which = "these" if len(runs) <= MOST else f"{MOST} of these"
    return (
        f"by theory few or none of {which} runs can train: on its way down the gradient loses "
        f"{lost}; {chosen.name} at {depth}: {better}"
    )


def _has_steep_origin(run: Run) -> bool:
    """Returns whether a normalised network is shown an input of zeros without biases, which stays 0
    from layer to layer: 1 / sqrt(EPSILON) is the slope of a normalisation there."""
    shown = (
        run.model.normalization in ("layer", "rms")
        and run.model.depth > 2
        and run.task.name in BOOLEAN
        and run.task.inputs == "binary"
        and not run.init.bias_variance
        and run.init.name not in OWN_BIASES
    )
    if not shown:
        return False
    phi = theory.function_of(run.activation)
    value, slope = theory.value_and_slope(phi, np.zeros(1))
    return not value[0] and bool(slope[0])


def _decades_gained(run: Run) -> float | None:
    """Returns the decades that delta should gain over the depth; None where theory cannot tell."""
    run, model = resolve(run), run.model
    known = variance_scaling(run.init.name, **dict(run.init.options))
    if known is None or model.normalization == "batch" or run.activation.surrogate != "none":
        return None
    phi = theory.function_of(run.activation)
    if not theory.moments(phi, 1.0).slope_square:
        return None  # step: its readout may learn all the same
    scale, fan = known
    gain = 1.0 if run.init.gain is None else run.init.gain  # which `resolve` has written out
    sw2 = gain**2 * scale * (model.width if fan == "fixed" else 1)
    sb2 = 1 / (3 * model.width) if run.init.name == "torch" else run.init.bias_variance
    branch = theory.branch_factor(model.residual, model.residual_scale, model.depth)
    normalised = model.normalization != "none"
    found = theory.profile(phi, model.depth, sw2, sb2, sw2 + sb2, branch, normalised).gradient[0]
    return None if math.isnan(found) else float(found)


def _check_size(depth: int, width: int) -> None:
    """Raises:
    FadeoutError: a depth or a width below 2, or larger than a network may have.
    """
    for name, size, most in (("depth", depth, MOST_DEPTH), ("width", width, MOST_WIDTH)):
        if not isinstance(size, int) or isinstance(size, bool) or not 2 <= size <= most:
            raise FadeoutError(
                f"advice needs a {name} from 2 to {most:,}, not {format_value(size)}"
            )


def advise_all(depth: int = 50, width: int = 64) -> pd.DataFrame:
    """The decades of every activation and choice, and the choice that is advised; without those
    that theory cannot judge.

    Raises:
      FadeoutError: a depth or a width below 2.
    """
    _check_size(depth, width)
    rows = {}
    for name in ACTIVATIONS:
        try:
            found = advise(name, depth, width)
        except FadeoutError:
            continue
        row = {words.split(" ")[-1].rstrip(","): d for words, d in found["decades"].items()}
        rows[name] = row | {"advice": found.attrs["advice"].split(":")[0].split(" is ")[0]}
    return pd.DataFrame.from_dict(rows, orient="index")
