"""What the playground needs: every activation as a table, from which a browser draws networks."""

import base64
from typing import Any

import numpy as np

from fadeout.analysis.looks import LOOKS
from fadeout.networks.activations import ACTIVATIONS
from fadeout.theory.gaussian import value_and_slope
from fadeout.theory.mean_field import critical

REACH, POINTS = 16.0, 4097
BEYOND: dict[str, float | str] = {"sin": "periodic", "squared_relu": 2}
"""How an activation goes on beyond the range: as that power of z, in a straight line where nothing
is said."""

INITS = {
    "lecun_normal": 1.0,
    "glorot_normal": 1.0,
    "he_normal": 2.0,
    "PyTorch's default": 1 / 3,
    "critical": None,
}
"""Weight variances times fan-in, of square layers; critical has each activation's own."""


def playground_data() -> dict[str, Any]:
    """phi and phi' of every activation on a grid as 32-bit floats, and its critical point."""
    z = np.linspace(-REACH, REACH, POINTS)
    table = {}
    for name in ACTIVATIONS:
        phi, slope = value_and_slope(name, z)
        edge = [point for point in critical(name) if point.variance > 0] or critical(name)
        table[name] = {
            "value": floats(phi),
            "slope": floats(slope),
            "color": LOOKS[name][0],
            "beyond": BEYOND.get(name, 1),
            "critical": edge[0].weight_variance if edge else None,
        }
    return {"reach": REACH, "points": POINTS, "activations": table, "inits": INITS}


def floats(values: np.ndarray) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()
