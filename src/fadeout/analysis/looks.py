"""How each activation looks, in every figure and page alike."""

from collections.abc import Sequence

import numpy as np

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


# Okabe & Ito's palette, which colour-blind readers tell apart; markers tell it apart in grey.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"

LOOKS: dict[str, tuple[str, str, str]] = {
    "step": (BLACK, ":", "s"),
    "sigmoid": (RED, "-", "o"),
    "tanh": (BLUE, "-", "^"),
    "relu": (GREEN, "-", "D"),
    "identity": (GREY, "-", "x"),
    "leaky_relu": (GREEN, "--", "d"),
    "elu": (SKY, "-", "v"),
    "selu": (SKY, "--", "<"),
    "gelu": (PURPLE, "-", "P"),
    "gelu_tanh": (PURPLE, ":", "p"),
    "silu": (PURPLE, "--", "*"),
    "mish": (PURPLE, "-.", "h"),
    "softplus": (ORANGE, "-", ">"),
    "softsign": (BLUE, "-.", "1"),
    "hard_tanh": (BLUE, "--", "2"),
    "hard_sigmoid": (RED, "--", "8"),
    "lecun_tanh": (BLUE, ":", "3"),
    "erf": (SKY, ":", "4"),
    "sin": (ORANGE, "--", "+"),
    "relu6": (GREEN, "-.", "H"),
    "squared_relu": (GREEN, ":", "X"),
}
"""Colour, line and marker of each activation, the same in every figure."""

_COLOR_CYCLE = [
    LOOKS[name] for name in ("tanh", "sigmoid", "relu", "softplus", "gelu", "elu", "step")
]


def hue_looks(hues: Sequence[str]) -> dict[str, dict[str, str]]:
    """How to draw each hue: an activation by its own look, numbers from dark to light, anything
    else in turn."""
    if len(hues) > 2 and all(map(_is_number, hues)):
        return {
            hue: {
                "color": _scale_color(i / (len(hues) - 1)),
                "linestyle": "-",
                "marker": _COLOR_CYCLE[i % 7][2],
            }
            for i, hue in enumerate(hues)
        }
    return {
        hue: dict(
            zip(("color", "linestyle", "marker"), LOOKS.get(hue, _COLOR_CYCLE[i % 7]), strict=True)
        )
        for i, hue in enumerate(hues)
    }


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


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
