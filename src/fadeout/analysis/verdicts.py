"""One word for every run: what its measurements mean."""

from contextlib import suppress

import numpy as np
import xarray as xr

from fadeout import theory
from fadeout.analysis.intervals import Interval, share_interval
from fadeout.networks.activations import (
    ACTIVATIONS,
    SURROGATES,
    get_activation,
    is_by_layer,
    layers_of_name,
)
from fadeout.registry import FadeoutError, parameters
from fadeout.sweeps.results import (
    final_values,
    is_examined,
    options_of,
    takes_results,
    with_run_dim,
)

# --- one word for every run

NEEDED = {"delta_norm", "dead_units", "saturation"}
DEAD, PARTLY_DEAD = 1.0, 0.5
VANISHING, EXPLODING = 1e-2, 1e2
VERDICTS = (
    "failed",
    "diverged",
    "unknown",
    "dead",
    "no_gradient",
    "vanishing",
    "exploding",
    "partly_dead",
    "saturated",
    "healthy",
)


@takes_results
def verdicts(results: xr.Dataset) -> np.ndarray:
    """Returns one word for each run: what is wrong with it, or `healthy`.

    The first that applies wins.

    *failed*: its program failed. *diverged*: a value was not finite. *unknown*: a probe that this
    needs was not recorded in the run. *dead*: after training, all units of some hidden layer are
    dead on all examples, so that no gradient passes. *no_gradient*: at initialisation delta is
    exactly 0 in every hidden layer, as with all weights 0. *vanishing*, *exploding*: at
    initialisation the delta norm of the first hidden layer is less than 1/100, or more than 100
    times, that of the last. *partly_dead*: after training, more than half of the units of some
    hidden layer are dead. *saturated*: after training, the share of saturated units is above the
    middle between 1 and the share that the activation has on a standard normal input, so that
    relu's flat half does not count against it. Else *healthy*.

    Args:
      results: as `fadeout.load` and `fadeout.train` give them; what `fadeout.examine` gives has
        them already, a word for each layer.

    Returns:
      Words, [run].

    Raises:
      FadeoutError: a probe that this needs was not recorded.

    >>> import fadeout
    >>> from fadeout import Run
    >>> runs = [Run("tanh"), Run("step")]
    >>> verdicts(fadeout.train(runs, cache=None, quiet=True)).tolist()
    ['healthy', 'dead']
    """
    if is_examined(results):
        raise FadeoutError(
            "verdicts are of runs; of one network, examine has put them in: .verdict"
        )
    results = with_run_dim(results, "verdicts")
    lacking = sorted(NEEDED - set(results))
    if lacking:
        raise FadeoutError(f"verdicts need the probes {', '.join(lacking)}: record them as well")
    start = results["delta_norm"].sel(step=0)
    first, last = start.sel(layer=1).values, start.sel(layer=results["depth"]).values
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = first / last
    hidden_layers = start.where(start["layer"] <= results["depth"])
    status, dead = results["status"].values, final_values(results["dead_units"])
    unknown = np.any([results[name].sel(step=0, layer=1).isnull() for name in NEEDED], axis=0)
    conditions = {
        "failed": status == "failed",
        "diverged": status == "diverged",
        "unknown": unknown,
        "dead": (dead >= DEAD).any("layer").values,
        "no_gradient": hidden_layers.max("layer").values == 0,
        "vanishing": ratio < VANISHING,
        "exploding": (ratio > EXPLODING) | np.isinf(first),
        "partly_dead": (dead > PARTLY_DEAD).any("layer").values,
        "saturated": final_values(results["saturation"]).mean("layer").values
        > _saturation_thresholds(results),
    }
    return np.select(list(conditions.values()), list(conditions), "healthy")


def _saturation_thresholds(results: xr.Dataset) -> np.ndarray:
    """The share of saturated units above which a run counts as saturated, [run]: half of the way
    from its activation's own share, on a standard normal input, to all."""
    names = ("activation", "surrogate", *_known_labels(results))
    present = [name for name in names if name in results.coords]
    if "activation" not in present:
        return np.full(results.sizes["run"], 0.5)
    columns = [
        [
            None if value != value or value == "" else value
            for value in results[name].values.tolist()
        ]
        for name in present
    ]  # NaN, which no two runs would share, is no value
    rows = list(zip(*columns, strict=True))
    expected = {row: expected_share(dict(zip(present, row, strict=True))) for row in set(rows)}
    return np.array([(expected[row] + 1) / 2 for row in rows])


def _known_labels(results: xr.Dataset) -> list[str]:
    """The labels of parameters of those activations that are known here."""
    known = {key for function in ACTIVATIONS.values() for key in parameters(function)}
    return [n for n in map(str, results.coords) if n.removeprefix("activation.") in known]


def expected_share(labels: dict) -> float:
    """The share of saturated units of an activation on a standard normal input; 0 of one that is
    not in the table."""
    if is_by_layer(str(labels["activation"])):
        with suppress(FadeoutError):  # of another version, which knows other activations
            layers = layers_of_name(labels["activation"])
            return float(np.mean([expected_share(labels | {"activation": n}) for n in layers]))
        return 0.0
    function = ACTIVATIONS.get(labels["activation"])
    surrogate = labels.get("surrogate", "none")
    if function is None or surrogate not in SURROGATES:
        return 0.0
    chosen = get_activation(
        labels["activation"], surrogate, **options_of("activation", function, labels)
    )
    return theory.saturated_share(chosen)


def verdict_shares(words: np.ndarray, seeds: np.ndarray | None = None) -> dict[str, Interval]:
    """The share of each verdict that occurs among some runs.

    Args:
      seeds: of the runs, which those of several activations or depths share.

    >>> list(verdict_shares(np.array(["healthy", "dead", "healthy"])))
    ['dead', 'healthy']
    """
    return {
        word: share_interval(words == word, seeds) for word in VERDICTS if (words == word).any()
    }
