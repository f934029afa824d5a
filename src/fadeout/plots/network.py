"""One network of a user's own, layer by layer."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fadeout.analysis.layer_verdicts import one_look, verdict_title
from fadeout.networks.probes import PROBES
from fadeout.plots.style import blank_figure, headline

_PANELS = {
    "the gradient": {"delta_norm": "o", "gradient_norm": "s"},
    "the signal": {"preactivation_std": "o", "activation_std": "s"},
    "units": {"dead_units": "o", "saturation": "s"},
}
_MOST_STEPS = 400
"""Columns of the picture over steps."""


def draw_network(found: xr.Dataset) -> Figure:
    """Gradient, signal and units of every layer of one network, the first at the bottom.

    Of a network that was watched the last look, with delta at the first one dotted, and delta over
    all steps as colour. Of several seeds the middle, with a band from the 10th to the 90th
    percentile; and delta with the scale that was advised and tried.

    What to conclude: a gradient that moves to the left on its way down vanishes; one that moves to
    the right explodes. A layer whose units are all dead lets nothing pass.
    """
    own = one_look(found)
    layers, over_steps = found.sizes["layer"], found.sizes.get("step", 1) > 2
    figure = blank_figure(13 + 4 * over_steps, 2.2 + 0.34 * layers)
    axes = figure.subplots(1, len(_PANELS) + over_steps, sharey=True)
    place = np.arange(layers)
    for ax, (title, quantities) in zip(axes, _PANELS.items(), strict=False):
        for number, (name, mark) in enumerate(quantities.items()):
            color = f"C{number}"
            if "seed" in found.dims and np.isfinite(found[name].values).any():
                band = _quantiles(found[name].values)
                ax.fill_betweenx(place, *band, color=color, alpha=0.2, linewidth=0)
            ax.plot(own[name].values, place, mark, color=color,
                    linestyle="-" if number == 0 else "", label=_label_of(name))  # fmt: skip
        ax.set_title(title)
    if "advised_delta_norm" in found:
        values = found["advised_delta_norm"].values
        axes[0].fill_betweenx(place, *_quantiles(values), color="C2", alpha=0.2, linewidth=0)
        axes[0].plot(np.nanmedian(values, 0), place, "^-", color="C2", label="as advised")
    if "step" in found.dims and found.sizes["step"] > 1:
        axes[0].plot(found["delta_norm"].values[0], place, ":", color="C0", label="at the start")
    for ax in axes[: len(_PANELS)]:
        _probe_legend(ax)
    for ax in axes[:2]:
        values = np.concatenate([line.get_xdata() for line in ax.lines])
        values = values[np.isfinite(values) & (values > 0)]
        if values.size and values.max() > 10 * values.min():
            ax.set_xscale("log")
        else:
            ax.set_xlim(left=0)
    axes[2].set_xlim(-0.03, 1.03)
    axes[2].xaxis.set_major_formatter(PercentFormatter(1))
    if over_steps:
        _draw_over_steps(figure, axes[3], found)
    words = [f"{path}  ({kind})" for path, kind in
             zip(own["layer"].values, own["kind"].values, strict=True)]  # fmt: skip
    axes[0].set_yticks(place, words)
    axes[0].set_ylim(-0.5, layers - 0.5)
    headline(figure, verdict_title(own))
    return figure


def _quantiles(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 10th and the 90th percentile over seeds, [layer]; NaN of a layer without values."""
    some = np.isfinite(values).any(0)
    ends = np.full((2, values.shape[1]), np.nan)
    ends[:, some] = np.nanquantile(values[:, some], [0.1, 0.9], axis=0)
    return ends[0], ends[1]


def _draw_over_steps(figure: Figure, ax: Axes, found: xr.Dataset) -> None:
    """Delta over steps and layers, as colour; grey is zero or not finite."""
    every = max(1, found.sizes["step"] // _MOST_STEPS)
    delta = found["delta_norm"].values[::every].T
    delta = np.where(np.isfinite(delta) & (delta > 0), delta, np.nan)
    steps = found["step"].values[::every]
    ax.set_facecolor("0.7")
    ax.set_title("the gradient while it trains")
    ax.set_xlabel("step")
    if not np.isfinite(delta).any():
        return
    low, high = np.nanmin(delta), np.nanmax(delta)
    mesh = ax.pcolormesh(
        steps, np.arange(delta.shape[0]), delta, shading="nearest", rasterized=True,
        norm=LogNorm(low, max(high, low * 1.01)),
    )  # fmt: skip
    figure.colorbar(mesh, ax=ax, label=_label_of("delta_norm"))


def _label_of(name: str) -> str:
    """Returns a short label for the legend: a symbol where the probe has one."""
    probe = PROBES.get(name)
    if probe is None:  # a quantity of `fadeout.examine` alone
        return "deviation of z"
    return f"${probe.symbol}$" if probe.symbol else probe.label.removesuffix(" units")


def _probe_legend(ax: Axes) -> None:
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
