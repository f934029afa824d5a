"""How each activation looks, in every figure and page alike."""

from collections.abc import Sequence

import numpy as np

from fadeout.networks.palette import COLORS
from fadeout.registry import FadeoutError, lookup

PICTURE_FORMATS = ("png", "svg", "pdf")
DEFAULT_FORMATS = PICTURE_FORMATS[:2]
"""Those written where nobody asks: a PDF takes longer than both, since fonts are put into it."""


def check_formats(formats: Sequence[str]) -> None:
    """Raises:
    FadeoutError: none, or one that no picture has.
    """
    if not formats:
        raise FadeoutError(f"formats must be some of {', '.join(PICTURE_FORMATS)}")
    for name in formats:
        lookup(dict.fromkeys(PICTURE_FORMATS), name, "format")


BLACK, ORANGE, SKY, GREEN, BLUE, RED, PURPLE, GREY = COLORS.values()

_LOOK_CYCLE = [
    (BLUE, "-", "^"), (RED, "-", "o"), (GREEN, "-", "D"), (ORANGE, "-", ">"), (PURPLE, "-", "P"),
    (SKY, "-", "v"), (BLACK, ":", "s"),
]  # fmt: skip
"""The looks of hues that have none of their own."""


def hue_looks(hues: Sequence[str]) -> dict[str, dict[str, str]]:
    """Returns how to draw each hue: an activation in its own look, numbers from dark to light,
    anything else in turn."""
    from fadeout.networks.activations import DISPLAYS  # imports JAX, which `check_formats` spares

    numbers = len(hues) > 2 and all(map(is_number, hues))
    looks = {}
    for i, hue in enumerate(hues):
        color, line, marker = _LOOK_CYCLE[i % len(_LOOK_CYCLE)]
        if numbers:
            color, line = _scale_color(i / (len(hues) - 1)), "-"
        elif hue in DISPLAYS and (look := DISPLAYS[hue].look):
            color, line, marker = look
        looks[hue] = {"color": color, "linestyle": line, "marker": marker}
    return looks


_VIRIDIS = ("#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58",
           "#b5de2b", "#fde725")  # fmt: skip
"""Anchors of the colour map, which matplotlib alone would be a heavy way to ask for."""


def _scale_color(place: float) -> str:
    """A colour from dark (0) to light (1), short of the yellow that is lost on white.

    >>> _scale_color(0.0)
    '#440154'
    """
    anchors = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in _VIRIDIS])
    at = 0.9 * place * (len(anchors) - 1)
    rgb = [round(np.interp(at, range(len(anchors)), column)) for column in anchors.T]
    return "#" + "".join(f"{value:02x}" for value in rgb)


def is_number(text: str) -> bool:
    """Returns whether a label is a finite number."""
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
