"""What to choose before anything is trained: theory's word on initialisers and remedies."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fadeout import theory
from fadeout.analysis.predictions import weight_variance
from fadeout.analysis.verdicts import EXPLODING, VANISHING
from fadeout.config import Activation, Init, Model, Run, Task, Training
from fadeout.networks.activations import ACTIVATIONS, get_activation
from fadeout.registry import FadeoutError, lookup, named, parameters
from fadeout.sweeps.sweep import train
from fadeout.training.resolve import resolve

SEEDS = 8


class Choice(NamedTuple):
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


def choices(phi: Any, depth: int, bias_variance: float) -> list[Choice]:
    """The usual initialisers, those that follow from the activation, and remedies."""
    square = theory.moments(phi, 1.0).square
    auto = 1 / square if 0 < square < math.inf else 1.0
    found = [
        Choice("init=glorot_normal, lecun_normal", 1.0, Init("lecun_normal"), {}),
        Choice("init=he_normal", 2.0, Init("he_normal"), {}),
        Choice("init=torch", 1 / 3, Init("mean_field", weight_variance=1 / 3), {}),
        Choice("init=lecun_normal init.gain=auto", auto, Init("lecun_normal", gain=auto**0.5), {}),
    ]
    for point in theory.critical(phi, bias_variance):
        init = Init("mean_field", weight_variance=point.weight_variance)
        found.append(Choice("init=critical", point.weight_variance, init, {}))
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
    """What theory expects of a deep network before it is trained, for each initialiser and remedy.

    Args:
      activation: by name, with its `options`; or a function.
      bias_variance: of all layers.
      measure: also draws networks of this width, and measures them.

    Returns:
      A row for each choice: its `weight_variance`; the last layer's `variance` of inputs of mean
      square 1; `chi`, the mean squared gain of delta in the last layer; `decades`, log10 of the
      first hidden layer's delta norm over the last's, and with `measure` the `measured` median;
      `reach`, 6 xi_c, the depth up to which inputs can be told apart (Schoenholz 2017); the
      `born_dead` share of networks; and a `word`. The attribute `advice` says what to choose.

    Raises:
      FadeoutError: an unknown activation, one that theory cannot judge, or a depth below 2.

    >>> found = advise("relu", depth=30)
    >>> found.loc["init=he_normal", "word"], found.attrs["advice"].split(":")[0]
    ('healthy', 'init=he_normal')
    """
    if not (isinstance(depth, int) and depth >= 2 and isinstance(width, int) and width >= 2):
        raise FadeoutError(
            f"advice needs a depth and a width of 2 or more, not {depth} and {width}"
        )
    if bias_variance < 0:
        raise FadeoutError(f"a variance is at least 0, not {bias_variance}")
    function: Any = activation
    if isinstance(activation, str):
        function = lookup(ACTIVATIONS, activation, "activation")
    unknown = options.keys() - parameters(function).keys()
    if unknown:
        raise FadeoutError(f"{named(function)} has no {' and no '.join(sorted(unknown))}")
    phi = get_activation(function, **options)
    known = theory.moments(phi, 1.0)
    if not (np.isfinite([known.square, known.slope_square]).all() and known.slope_square > 0):
        raise FadeoutError(
            f"theory cannot judge {activation}: of a standard normal input, E phi^2 is "
            f"{known.square:g} and E phi'^2 {known.slope_square:g}"
        )
    rows = {}
    for choice in choices(phi, depth, bias_variance):
        row = expected(phi, choice, depth, width, bias_variance)
        if measure:
            chosen = Activation(activation, **options)
            row["measured"] = measured(chosen, choice, depth, width, bias_variance)
        rows[choice.words] = row | {"word": word(row, depth)}
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.attrs["advice"] = sentence(frame)
    return frame


def expected(phi: Any, choice: Choice, depth: int, width: int, bias_variance: float) -> dict:
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
        "reach": abs(reach),
        "born_dead": born_dead(phi, depth, width) if plain and not bias_variance else math.nan,
    }


def born_dead(phi: Any, depth: int, width: int) -> float:
    """The share of networks some layer of which is born dead at one input; NaN of activations that
    are not flat for all negative inputs, and only for those."""
    _, slope = theory.value_and_slope(phi, np.concatenate([-np.geomspace(1e-3, 30, 50), [1e-3]]))
    flat = not slope[:-1].any() and slope[-1] != 0
    return theory.dead_probability(*[width] * depth) if flat else math.nan


def measured(
    activation: Activation, choice: Choice, depth: int, width: int, bias_variance: float
) -> float:
    """The median over networks of the decades that the gradient gains on its way down."""
    init = Init(choice.init.name, choice.init.gain, bias_variance, options=choice.init.options)
    runs = [
        Run(activation, init, Task(inputs="bipolar"), Model(depth, width, **choice.model),
            training=Training(0, 1), probes=("delta_norm",), seed=seed)
        for seed in range(SEEDS)
    ]  # fmt: skip
    delta = train(runs)["delta_norm"].isel(step=0).values
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.median(np.log10(delta[:, 0] / delta[:, depth - 1])))


def word(row: dict, depth: int) -> str:
    """One word, as `verdicts` has them; *forgets* where inputs cannot be told apart at the top."""
    if not np.isfinite([row["variance"], row["decades"]]).all():
        return "exploding" if row["variance"] > 1 else "vanishing"
    if row["decades"] < math.log10(VANISHING) or row["variance"] < VANISHING**2:
        return "vanishing"
    if row["decades"] > math.log10(EXPLODING) or row["variance"] > EXPLODING**2:
        return "exploding"
    if row["born_dead"] > 0.5:
        return "dead"
    return "forgets" if row["reach"] < depth else "healthy"


def sentence(frame: pd.DataFrame) -> str:
    """What to choose: an initialiser if one keeps the gradient within a decade, else the healthy
    choice that changes it least, else the least bad."""
    healthy = frame[frame["word"] == "healthy"]
    plain = healthy[~healthy.index.str.startswith("model.") & (healthy["decades"].abs() <= 1)]
    if len(healthy):
        best = plain.index[0] if len(plain) else healthy["decades"].abs().idxmin()
        alone = "" if len(plain) else "; no initialiser alone does"
        kept = f"the gradient keeps its size ({healthy.loc[best, 'decades']:+.1f} decades)"
        return f"{best}: {kept}{alone}"
    best = frame["decades"][np.isfinite(frame["decades"])].abs().idxmin()
    row = frame.loc[best]
    return (
        f"{best} is the least bad ({row.decades:+.1f} decades, {row.word}): nothing here keeps a "
        "network of this depth healthy"
    )


HOPELESS, LONG = -6.0, 100
"""Decades of delta over a network's depth from which on it does not learn (`fadeout claims
adam-ignores`: none of 40 at 7), and runs from which on a sweep is worth a warning."""


def warning(runs: Sequence[Run]) -> str | None:
    """A line for a long sweep of which theory says that no run can train, and what would help; else
    None, also where theory has no word."""
    if len(runs) < LONG or not runs[0].training.steps:
        return None
    sample = [runs[i] for i in np.linspace(0, len(runs) - 1, LONG).round().astype(int)]
    least = -math.inf
    for run in dict.fromkeys(replace(run, seed=0) for run in sample):
        found = decades_of(run)
        if found is None or found > HOPELESS:
            return None
        least = max(least, found)
    chosen, depth = sample[0].activation, sample[0].model.depth
    try:
        better = advise(chosen.name, depth, **dict(chosen.options)).attrs["advice"]
    except FadeoutError:
        return None
    lost = f"the gradient loses {-least:.0f} decades or more on its way down"
    return f"by theory none of these runs can train: {lost}; {chosen.name} at {depth}: {better}"


def decades_of(run: Run) -> float | None:
    """What theory expects delta to gain over the depth; None where it has no word."""
    run, model = resolve(run), run.model
    sw2 = weight_variance(run.labels())
    if sw2 is None or model.normalization == "batch" or run.activation.surrogate != "none":
        return None
    phi = get_activation(run.activation.name, **dict(run.activation.options))
    branch = theory.branch_factor(model.residual, model.residual_scale, model.depth)
    sb2 = run.init.bias_variance
    normalised = model.normalization != "none"
    found = theory.profile(phi, model.depth, sw2, sb2, sw2 + sb2, branch, normalised).gradient[0]
    return float(found) if np.isfinite(found) else None


def advise_all(depth: int = 50, width: int = 64) -> pd.DataFrame:
    """The decades of every activation and choice, and the choice that is advised."""
    rows = {}
    for name in ACTIVATIONS:
        try:
            found = advise(name, depth, width)
        except FadeoutError:
            continue
        row = {words.split(" ")[-1].rstrip(","): d for words, d in found["decades"].items()}
        rows[name] = row | {"advice": found.attrs["advice"].split(":")[0].split(" is ")[0]}
    return pd.DataFrame.from_dict(rows, orient="index")
