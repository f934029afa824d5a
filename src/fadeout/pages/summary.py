"""What the report of a sweep shows, as plain data: few enough numbers for a browser to hold."""

import base64
import json
import math
from typing import Any

import numpy as np
import xarray as xr

from fadeout.analysis import groups
from fadeout.analysis.comparison import shared_labels
from fadeout.analysis.intervals import share_interval
from fadeout.analysis.looks import hue_looks
from fadeout.analysis.predictions import predict_delta_norm
from fadeout.analysis.verdicts import EXPLODING, NEEDED, VANISHING, VERDICTS, verdicts
from fadeout.config import Run
from fadeout.networks.palette import DASHES
from fadeout.registry import TABLES, FadeoutError, parameters
from fadeout.schema import Choice
from fadeout.sweeps.results import config_labels, final_values
from fadeout.sweeps.variables import is_share, variable_attributes

_SHOWN = ("delta_norm", "gradient_norm", "saturation", "dead_units", "activation_std", "one_sided")
MOST_STEPS, MOST_GROUPS, MOST_VALUES, MOST_RUNS = 41, 300, 30, 20_000

NOTHING, ZERO = -32768, -32767
"""How numbers that are not finite, and zeros on a logarithmic axis, are written."""


def summary(
    results: xr.Dataset, name: str, question: str = "", playground: bool = False
) -> dict[str, Any]:
    """All that the page needs.

    Runs are grouped by up to four of the config values that vary; the others, and the seed, are
    what the bands spread over.

    Raises:
      FadeoutError: no run to show.
    """
    if not results.sizes["run"]:
        raise FadeoutError("the sweep holds no runs")
    results = groups.with_remedy(results)
    axes = _axes_of(results)
    shown = [axis["values"] for axis in axes]
    grouped = groups.group_by(results, [axis["name"] for axis in axes], shown)
    quantities = [probe for probe in _SHOWN if probe in results]
    steps = groups.subsample(results["step"].values.tolist(), MOST_STEPS)
    words = verdicts(results) if set(results) >= NEEDED else results["status"].values
    colors = axes[0]["values"]
    return {
        "name": name,
        "question": [line.strip() for line in question.splitlines() if line.strip()],
        "classes": bool(np.isin(results["status"].values, ["solved", "unsolved"]).any()),
        "limits": [math.log10(VANISHING), math.log10(EXPLODING)],
        "playground": playground,
        "axes": axes,
        "colors": [look["color"] for look in hue_looks(colors).values()],
        "dashes": [DASHES[look["linestyle"]] for look in hue_looks(colors).values()],
        "steps": steps,
        "quantities": [
            {
                "name": q,
                "title": variable_attributes(q)["long_name"],
                "share": is_share(q),
                "readout": "readout" in variable_attributes(q).get("layers", ""),
            }
            for q in quantities
        ],
        "groups": [_summarized(results, shown, *group, quantities, steps) for group in grouped],
        "verdicts": _shares_of(words, results["seed"].values),
        "left_out": results.sizes["run"] - sum(own.size for _, own in grouped),
        "pooled": [
            name
            for name in _varying(results)
            if name not in _told(axes)
            and any(groups.varies(results.isel(run=own), name) for _, own in grouped)
        ],
        "runs": _runs_table(results, words, axes[0]),
        "config": _config_of(results),
        "provenance": {key: str(value) for key, value in results.attrs.items()},
    }


def _told(axes: list[dict[str, Any]]) -> set[str]:
    """Returns what the axes tell apart: of a remedy, all its parts."""
    names = {axis["name"] for axis in axes}
    return names | {*groups.REMEDY_LABELS} if "remedy" in names else names


def _finding(runs: xr.Dataset, depth: int) -> dict[str, Any]:
    """Returns what a headline says of a group: over how many decades delta changes at the start
    from the highest hidden layer to the lowest; None where that is zero, or of one layer."""
    if "delta_norm" not in runs or depth < 2:
        return {"decades": None, "zero": False}
    lowest, highest = (runs["delta_norm"].sel(step=0, layer=n).values for n in (1, depth))
    zero = bool(np.median(lowest == 0) == 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        decades = np.log10(lowest / highest)
    known = decades[np.isfinite(decades)]
    return {"decades": None if zero or not known.size else float(np.median(known)), "zero": zero}


def _varying(results: xr.Dataset) -> list[str]:
    names = [name for name in config_labels(results) if groups.varies(results, name)]
    return ["sweep"] * _of_several_sweeps(results) + names


def _of_several_sweeps(results: xr.Dataset) -> bool:
    """Returns whether they are of several sweeps."""
    return "sweep" in results.coords and len(np.unique(results["sweep"].values)) > 1


def _axes_of(results: xr.Dataset) -> list[dict[str, Any]]:
    """The config values by which runs are grouped, the first of them by colour."""
    names = ["sweep"] if _of_several_sweeps(results) else [groups.choose_hue(results)]
    order = (groups.choose_hue(results), "activation", "depth", "init", *groups.HUES)
    total = len(np.unique(results[names[0]].values))
    for name in dict.fromkeys(n for n in order if n in _varying(results) and n not in names):
        count = len(np.unique(results[name].values))
        if len(names) < 4 and count <= MOST_VALUES and total * count <= MOST_GROUPS:
            names.append(name)
            total *= count
    return [{"name": name, "values": _words_of(results, name)} for name in names]


def _words_of(results: xr.Dataset, name: str) -> list[str]:
    return groups.subsample(groups.label_texts(results[name].values)[1], MOST_VALUES)


def _summarized(
    results: xr.Dataset, shown: list, words: tuple, own: np.ndarray, quantities: list, steps: list
) -> dict[str, Any]:
    """Medians and bands of a group of runs, over steps and layers."""
    runs = results.isel(run=own)
    depth = int(runs["depth"].max())
    recorded = groups.recorded_steps(runs)
    own_steps = [s for s in steps if recorded[np.searchsorted(results["step"].values, s)]]
    cut = runs.sel(layer=slice(1, depth + 1), step=own_steps)
    theory = predict_delta_norm(shared_labels(runs), np.arange(1, depth + 2))
    return {
        "at": [values.index(word) for values, word in zip(shown, words, strict=True)],
        "runs": own.size,
        "depth": depth,
        "steps": own_steps,
        "solved": [float(x) for x in groups.solved_share(runs)],
        **_finding(runs, depth),
        "loss": encode_values(np.stack(groups.quantile_spread(cut["loss"])), share=False),
        "values": {
            q: encode_values(np.stack(groups.quantile_spread(cut[q])), is_share(q))
            for q in quantities
        },
        "theory": None if theory is None else encode_values(theory, share=False),
    }


def encode_values(values: np.ndarray, share: bool) -> str:
    """Numbers as 16-bit integers in base64, with what one is divided by before a colon: shares, or
    log10, of which more than 32 decades leave two digits instead of three."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = values if share else np.log10(values)
    far = np.abs(logs[np.isfinite(logs)]).max(initial=0) > 32
    unit = 10_000 if share else 100 if far else 1_000
    scaled = logs * unit
    whole = np.where(np.isfinite(scaled), np.rint(np.clip(scaled, -32_000, 32_000)), NOTHING)
    if not share:
        whole = np.where(values == 0, ZERO, whole)
    return f"{unit}:{base64.b64encode(whole.astype('<i2').tobytes()).decode()}"


def _shares_of(words: np.ndarray, seeds: np.ndarray) -> list[dict[str, Any]]:
    """Every word that some run has, verdicts in their order."""
    found = sorted(set(words.tolist()), key=lambda w: VERDICTS.index(w) if w in VERDICTS else 0)
    return [{"word": word, "share": list(share_interval(words == word, seeds))} for word in found]


def _runs_table(results: xr.Dataset, words: np.ndarray, hue: dict[str, Any]) -> dict[str, Any]:
    """A row for each run, or for evenly spread ones of very many; `hue` is the place of its colour,
    -1 where it is not drawn."""
    count = results.sizes["run"]
    rows = np.array(groups.subsample(list(range(count)), MOST_RUNS))
    few = results.isel(run=rows)
    names = [name for name in _varying(results) if name in few.coords]
    places = {text: place for place, text in enumerate(hue["values"])}
    probe = next((p for p in ("delta_norm", "gradient_norm") if p in few), None)
    profiles = None
    if probe is not None:
        ends = np.stack([few[probe].sel(step=0), final_values(few[probe])], axis=1)
        profiles = {"probe": variable_attributes(probe)["long_name"], "layers": ends.shape[2],
                    "values": encode_values(ends, share=False)}  # fmt: skip
    return {
        "total": count,
        "names": names,
        "labels": [_as_json_values(few[name]) for name in names],
        "hue": [places.get(text, -1) for text in groups.label_texts(few[hue["name"]].values)[0]],
        "id": few["id"].values.tolist(),
        "status": few["status"].values.tolist(),
        "verdict": words[rows].tolist(),
        "solved_step": _whole_or_none(few["solved_step"]) if "solved_step" in few else None,
        "loss": encode_values(final_values(few["loss"]).values, share=False),
        "profiles": profiles,
    }


def _as_json_values(values: xr.DataArray) -> list[Any]:
    """Values for JSON, None where a run has none."""
    return [None if value != value else value for value in values.values.tolist()]


def _whole_or_none(values: xr.DataArray) -> list[int | None]:
    return [None if np.isnan(v) else int(v) for v in values.values]


def _config_of(results: xr.Dataset) -> list[dict[str, Any]]:
    """Every config value by its label, its key on the command line, and where all share it, the
    value."""
    first = Run.from_dict(json.loads(str(results["config"].values[0])))
    shared = first.labels()
    found: list[dict[str, Any]] = []
    for label, (section, key) in first.words().items():
        path = section if key == "name" else f"{section}.{key}"
        if key != "name" and isinstance(getattr(first, section), Choice):
            path = f"++{path}"  # not every option's YAML has every key
        told = {"label": label, "path": path, "value": shared[label]}
        found.append(told | {"usual": _usual_of(first, section, key)})
    probes = {"value": list(first.probes), "usual": list(Run().probes)}
    found.append({"label": "probes", "path": "probes"} | probes)
    return [*found, {"label": "seed", "path": "seed", "value": first.seed, "usual": 0}]


def _usual_of(run: Run, section: str, key: str) -> Any:
    """Returns the default of a key."""
    own = getattr(run, section)
    if key in dict(getattr(own, "options", ())):
        entry = TABLES[section].get(own.name)
        return None if entry is None else parameters(entry)[key].default
    return getattr(getattr(Run(), section), key)
