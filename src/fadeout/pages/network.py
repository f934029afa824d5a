"""What the page of one network of a user's own shows, as plain data."""

from typing import Any

import numpy as np
import xarray as xr

from fadeout.analysis.groups import subsample
from fadeout.analysis.layer_verdicts import one_look, verdict_title
from fadeout.analysis.watch import first_trouble, since

_SHOWN = (
    "delta_norm", "gradient_norm", "preactivation_std", "activation_std", "dead_units",
    "saturation", "delta_over_time",
)  # fmt: skip
_SHARES = "dead_units", "saturation"
_MOST_STEPS = 200


def network_summary(found: xr.Dataset, name: str) -> dict[str, Any]:
    """All that the page needs.

    Args:
      found: as `fadeout.examine` or a watch gives it.
    """
    own = one_look(found)
    steps, rows = [None], [own]
    if "step" in found.dims:
        places = subsample(list(range(found.sizes["step"])), _MOST_STEPS)
        steps = found["step"].values[places].tolist()
        rows = [found.isel(step=place) for place in places]
    shown = [q for q in _SHOWN if np.isfinite(found[q].values).any()]
    return {
        "name": name,
        "headline": verdict_title(own),
        "advice": own.attrs["advice"],
        "notes": [text for text in (first_trouble(found), own.attrs["notes"]) if text],
        "layers": own["layer"].values.tolist(),
        "kinds": own["kind"].values.tolist(),
        "units": own["units"].values.tolist(),
        "verdicts": [str(word).replace("_", " ") for word in own["verdict"].values],
        "since": [since(found, layer) for layer in range(own.sizes["layer"])],
        "steps": steps,
        "loss": [
            _number(row["loss"].item() if "loss" in row else row.attrs["loss"]) for row in rows
        ],
        "seeds": found.sizes.get("seed", 1),
        "quantities": [
            {
                "title": found[q].attrs.get("long_name", q),
                "share": q in _SHARES,
                "values": [[_number(value) for value in row[q].values] for row in rows],
                "band": _band(found[q]),
            }
            for q in shown
        ],
        "advised": _band(found["advised_delta_norm"]) if "advised_delta_norm" in found else None,
    }


def _band(values: xr.DataArray) -> list[list[float | None]] | None:
    """The 10th percentile, the median and the 90th over seeds, [3, layer]; None without seeds."""
    if "seed" not in values.dims:
        return None
    return [
        [_number(np.nanquantile(own, share)) if np.isfinite(own).any() else None
         for own in values.values.T]
        for share in (0.1, 0.5, 0.9)
    ]  # fmt: skip


def _number(value: float) -> float | None:
    """A number for JSON, of four digits; None where it is not finite."""
    return float(f"{value:.4g}") if np.isfinite(value) else None
