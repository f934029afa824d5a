"""Lines that all figures share: a median with its band, their looks, and the words of axes."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib import rcParams
from matplotlib.axes import Axes

from fadeout.analysis import groups
from fadeout.analysis.looks import hue_looks, is_number
from fadeout.plots.style import ZEROS

LEAST_LOSS = 1e-8
"""Lower limit of the loss axis, lest runs whose loss is nearly 0 squash the other curves."""

HIDDEN_LAYER = "hidden layer"
WEIGHT_LAYER = "weight layer (readout last)"
DOWNWARDS = f"{WEIGHT_LAYER}  \N{LEFTWARDS ARROW} the gradient's way"


def layers_text(depth: int) -> str:
    return "1 hidden layer" if depth == 1 else f"{depth} hidden layers"


def line_looks(hues: Sequence[str], name: str) -> dict[str, dict]:
    """Returns the look of each hue with its label. The first lines are the widest, so that those
    that coincide are all seen; numbers have a scale of colours and nothing besides, and the first
    says what they are of.

    Args:
      name: of what the hues are values of.
    """
    looks, last = hue_looks(hues), max(len(hues) - 1, 1)
    numbers = all(map(is_number, hues))
    for i, hue in enumerate(hues):
        wider = 1 if numbers else 1 + 1.2 * (len(hues) - 1 - i) / last
        looks[hue] |= {"label": hue, "linewidth": wider * rcParams["lines.linewidth"]}
        if numbers:
            looks[hue] |= {"marker": "o"}
    if hues and numbers:
        looks[hues[0]]["label"] = f"{name.replace('_', ' ')} {hues[0]}"
    return looks


def band(ax: Axes, x: np.ndarray, values: xr.DataArray, look: dict) -> bool:
    """The median as a line, the 10th to 90th percentile as a band, exact zeros at the foot.

    Returns:
      Whether there is a band: of one run there is none.
    """
    low, median, high = groups.quantile_spread(values)
    zero = median == 0
    ax.plot(x, median, **look)
    if values.sizes["run"] > 1:
        ax.fill_between(x, low, high, where=~zero, color=look["color"], alpha=0.15, linewidth=0)
    if zero.any():
        foot = ax.get_xaxis_transform()
        ax.plot(
            x[zero], np.full(zero.sum(), 0.02), transform=foot, color=look["color"], linestyle="",
            marker="v", markerfacecolor="white", clip_on=False, visible=False,
            gid=f"{ZEROS}{look['label']}", label="_zeros",
        )  # fmt: skip
    return values.sizes["run"] > 1
