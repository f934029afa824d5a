"""Functions of a results dataset: labels, final values, tables and weights."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from fadeout.registry import FadeoutError, format_value, parameters
from fadeout.sweeps.variables import AXES, KEPT_DIMS, STATUSES, is_probe


def config_labels(results: xr.Dataset) -> list[str]:
    """The labels of a dataset, in the schema's order."""
    told = ("id", "config", "sweep", "run")
    return [str(n) for n, v in results.coords.items() if v.dims == ("run",) and n not in told]


def options_of(section: str, function: Callable, labels: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an entry among some labels, those that are there."""
    found = {}
    for key, (kind, *_) in parameters(function).items():
        value = labels.get(f"{section}.{key}", labels.get(key))
        if value is not None and value == value and value != "":
            found[key] = kind(value)
    return found


def select_identities(dataset: xr.Dataset, identities: np.ndarray) -> xr.Dataset:
    """Selects the runs with these identities, given as numbers."""
    return dataset.isel(run=np.isin(identity_numbers(dataset["id"].values), identities))


def final_values(values: xr.DataArray) -> xr.DataArray:
    """Returns the values at each run's last recorded step."""
    last = values["steps"] if "steps" in values.coords else values["step"].max()
    shared = np.unique(last.values)
    return values.sel(step=shared[0] if shared.size == 1 else last)  # run by run it takes longer


def is_examined(results: Any) -> bool:
    """Returns whether this is what `fadeout.examine` gives, a row for each layer of one network."""
    return isinstance(results, xr.Dataset) and "module" in results.attrs


def with_run_dim(results: Any, what: str) -> xr.Dataset:
    """Results with the dimension `run`, also of one run that was cut out of them.

    Args:
      what: asks, for an error.

    Raises:
      FadeoutError: they are no results of runs.
    """
    needs = f"{what} takes results, as fadeout.load and fadeout.train give them"
    if not isinstance(results, xr.Dataset):
        raise FadeoutError(f"{needs}, not {_shown_kind(results)}")
    if "depth" not in results.coords or "step" not in results.coords:
        raise FadeoutError(f"{needs}: these are of no runs")
    if more := set(map(str, results.dims)) - {"run", *AXES, *KEPT_DIMS}:
        raise FadeoutError(f"{needs}: these have the dimension {', '.join(sorted(more))} besides")
    if "run" in results.dims:
        if "status" in results:  # `where` leaves rows of runs that it has masked
            known = np.isin(results["status"].values.astype(str), STATUSES)
            results = results if known.all() else results.isel(run=known)
        if not results.sizes["run"]:
            raise FadeoutError(f"{needs}: these have no run")
        return results
    labels = {
        name: ("run", values.values.reshape(1))
        for name, values in results.coords.items()
        if not values.ndim and name not in (*AXES, "run")
    }
    axes = {name: results[name] for name in results.dims if name in results.coords}
    variables = {
        name: (("run", *values.dims), values.values[None], values.attrs)
        for name, values in results.data_vars.items()
    }
    return xr.Dataset(variables, labels | axes, results.attrs)


def takes_results(function: Callable) -> Callable:
    """A function of results, which says so where a part of them is missing, as after a `sel`."""

    @functools.wraps(function)
    def call(*arguments: Any, **given: Any) -> Any:
        try:
            return function(*arguments, **given)
        except FadeoutError:
            raise
        except (KeyError, IndexError, ValueError, TypeError) as error:
            results = arguments[0] if arguments else given.get("results")
            if not isinstance(results, xr.Dataset) or _is_whole(results):
                raise
            raise FadeoutError(
                f"{function.__name__} takes whole results, all steps and layers, and these lack "
                "some: call it on what fadeout.load and fadeout.train give"
            ) from error

    return call


def _is_whole(results: xr.Dataset) -> bool:
    """Returns whether results have what all of them have: their axes, labels and outcomes."""
    if not {"run", "step", "layer"} <= set(results.dims) or 0 not in results["step"]:
        return False
    if not {"id", "seed", "depth", "activation", "steps"} <= set(results.coords):
        return False
    labels = all(results[name].dims == ("run",) for name in ("id", "seed", "depth"))
    numbers = all(results[n].dtype.kind != "O" for n in results.data_vars if is_probe(str(n)))
    if not labels or not numbers or results["depth"].max() >= results.sizes["layer"]:
        return False
    ends = np.unique(results["steps"].values)
    return "status" in results and "loss" in results and bool(np.isin(ends, results["step"]).all())


def _shown_kind(value: Any) -> str:
    """Describes a value that is no results, in a few words."""
    kind = type(value).__name__
    if isinstance(value, xr.DataArray):
        return f"the variable {value.name} alone (a DataArray)"
    return f"a {kind}" if isinstance(value, list | dict | tuple) else format_value(value)


@takes_results
def to_frame(results: xr.Dataset) -> Any:
    """A row for every run: its config values, how it ended, and the final loss and accuracy.

    Args:
      results: as `fadeout.load` and `fadeout.train` give them; of `fadeout.examine` the rows are
        layers.

    Returns:
      A pandas.DataFrame with the runs' identities as index, without what all runs share and what
      none has; its `to_csv` writes it.

    Raises:
      FadeoutError: they are no results.

    >>> import fadeout
    >>> runs = [fadeout.Run("tanh", seed=seed) for seed in (0, 1)]
    >>> to_frame(fadeout.train(runs, cache=None, quiet=True)).columns.tolist()
    ['seed', 'status', 'solved_step', 'loss', 'accuracy']
    """
    if is_examined(results):
        return results.to_dataframe()
    results = with_run_dim(results, "to_frame")
    ends = {name: final_values(results[name]) for name in ("loss", "accuracy") if name in results}
    told = {
        name: results[name]
        for name in ("status", "solved_step", "diverged_step")
        if name in results
    }
    labels = {
        name: values
        for name, values in results.coords.items()
        if values.dims == ("run",) and name not in ("id", "config", "run")
    }
    values = {name: array.values for name, array in (labels | told | ends).items()}
    frame = pd.DataFrame(values, index=pd.Index(results["id"].values, name="id"))
    varying = [name for name in labels if frame[name].astype(str).nunique() > 1]
    return frame[[*varying, *told, *ends]].dropna(axis="columns", how="all")


def weights(result: xr.Dataset) -> dict[str, np.ndarray]:
    """The last kernels and biases of a run that keeps them, by name.

    `np.savez("weights.npz", **weights)` writes what `init=given init.npz=weights.npz` reads.

    Args:
      result: of one run, `results.isel(run=0)`, trained with `keep=[weights]`.

    Returns:
      NumPy arrays: `kernel_1` [in, out], `bias_1` [out], ..., the readout's last.

    Raises:
      FadeoutError: there are several, or it does not keep them, or they are not finite, or it has
        trained gains or factors besides.

    >>> import fadeout
    >>> trained = fadeout.train(Run(keep=["weights"]))  # doctest: +SKIP
    >>> weights(trained.isel(run=0))["kernel_1"].shape  # doctest: +SKIP
    (2, 8)
    """
    if is_examined(result):
        raise FadeoutError("weights are of a run; examine leaves a module's own where they are")
    runs = with_run_dim(result, "weights")
    if runs.sizes["run"] > 1:
        raise FadeoutError("weights are of one run: results.isel(run=0)")
    result = runs.isel(run=0)
    if "last_kernel" not in result:
        raise FadeoutError("this run did not keep its weights: train it with keep=[weights]")
    found = {}
    for layer in range(1, int(result["depth"]) + 2):
        own = result.sel(layer=layer)
        kernel, bias = own["last_kernel"].values, own["last_bias"].values
        there = ~np.isnan(kernel)
        kernel = kernel[there.any(1)][:, there.any(0)]
        if not kernel.size or not np.isfinite(kernel).all():
            raise FadeoutError("this run kept no finite weights: none at all, or it diverged")
        found[f"kernel_{layer}"] = kernel
        found[f"bias_{layer}"] = bias[there.any(0)]
    more = [n for n in ("last_gain", "last_factor") if n in result and result[n].notnull().any()]
    if more:
        raise FadeoutError(
            "kernels and biases are not all of this network: its trained gains, shifts and factors "
            f"are in {', '.join(more)}"
        )
    return found


def identity_numbers(identities: Any) -> np.ndarray:
    """Identities as 64-bit numbers, which take an eighth of their memory."""
    return np.array([int(text, 16) for text in identities], np.uint64)
