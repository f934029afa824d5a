"""One network of a user's own, layer by layer."""

from collections import Counter

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fadeout.networks.probes import PROBES
from fadeout.plots.style import blank_figure, headline

_PANELS = {
    "the gradient": {"delta_norm": "o", "gradient_norm": "s"},
    "the signal": {"preactivation_std": "o", "activation_std": "s"},
    "units": {"dead_units": "o", "saturation": "s"},
}


def draw_network(found: xr.Dataset) -> Figure:
    """Gradient, signal and units of every layer of one network, the first at the bottom.

    Of a network that was watched the last look, of several seeds the median.

    What to conclude: a gradient that moves to the left on its way down vanishes; one that moves to
    the right explodes. A layer whose units are all dead lets nothing pass.
    """
    found = _one_look(found)
    layers = found.sizes["layer"]
    figure = blank_figure(13, 2.2 + 0.34 * layers)
    axes = figure.subplots(1, len(_PANELS), sharey=True)
    place = np.arange(layers)
    for ax, (title, quantities) in zip(axes, _PANELS.items(), strict=True):
        for number, (name, mark) in enumerate(quantities.items()):
            values = found[name].values
            ax.plot(values, place, mark, color=f"C{number}", linestyle="-" if number == 0 else "",
                    label=_label_of(name))  # fmt: skip
        ax.set_title(title)
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
    words = [f"{path}  ({kind})" for path, kind in
             zip(found["layer"].values, found["kind"].values, strict=True)]  # fmt: skip
    axes[0].set_yticks(place, words)
    axes[0].set_ylim(-0.5, layers - 0.5)
    headline(
        figure, f"{found.attrs['module']}, loss {found.attrs['loss']:.4g}: {_verdict_title(found)}"
    )
    return figure


def _label_of(name: str) -> str:
    """Returns a short label for the legend: a symbol where the probe has one."""
    probe = PROBES.get(name)
    if probe is None:  # a quantity of `fadeout.examine` alone
        return "deviation of z"
    return f"${probe.symbol}$" if probe.symbol else probe.label.removesuffix(" units")


def _one_look(found: xr.Dataset) -> xr.Dataset:
    if "step" in found.dims:
        last = found.isel(step=-1)
        return last.assign_attrs(loss=float(last["loss"]))
    if "seed" in found.dims:
        middle = found.drop_vars("verdict").median("seed", keep_attrs=True)
        return middle.assign(verdict=found["verdict"])
    return found


def _verdict_title(found: xr.Dataset) -> str:
    """Returns a short title: how many layers have what verdict, or which has it."""
    words = found["verdict"].values
    ill = Counter(word for word in words if word != "healthy")
    named = [
        f"{number} of {words.size} layers {word.replace('_', ' ')}"
        if number > 1
        else f"{found['layer'].values[words == word][0]} {word.replace('_', ' ')}"
        for word, number in ill.most_common()
    ]
    return "; ".join(named) or "healthy in all layers"


def _probe_legend(ax: Axes) -> None:
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
