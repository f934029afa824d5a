"""What a layer adds to the logarithm of a norm."""

import numpy as np
import xarray as xr


def _hidden_layers(values: xr.DataArray) -> np.ndarray:
    """A probe's values at the hidden layers of runs of one depth, [..., layer]."""
    (depth,) = np.unique(values["depth"].values)
    return values.sel(layer=slice(1, int(depth))).values


def log10_slopes(values: xr.DataArray, lowest: int = 1) -> np.ndarray:
    """Returns, per run, what each layer adds to log10 of a norm on the way up, by least squares,
    [run].

    Args:
      values: of runs of one depth at one step, [run, layer].
      lowest: hidden layer that is looked at.

    Positive is a gradient that vanishes on its way down.
    """
    with np.errstate(divide="ignore"):
        return least_squares_slope(np.log10(_hidden_layers(values)[:, lowest - 1 :]))


def least_squares_slope(profile: np.ndarray) -> np.ndarray:
    """The slope of values over layers, [..., layer], by least squares; of infinite ones infinite
    or NaN.

    >>> print(round(float(least_squares_slope(np.array([3.0, 5.0, 7.0]))), 12))
    2.0
    """
    layers = np.arange(profile.shape[-1]) - (profile.shape[-1] - 1) / 2
    with np.errstate(invalid="ignore"):  # of infinite ones
        summed = profile @ layers
    return summed / (layers @ layers)
