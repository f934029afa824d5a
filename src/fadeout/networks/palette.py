"""The colours, lines and markers that pictures and pages can both draw. Imports nothing heavy."""

import re
from typing import Any

from fadeout.registry import FadeoutError, format_value, lookup

COLORS = {
    "black": "#000000", "orange": "#E69F00", "sky": "#56B4E9", "green": "#009E73",
    "blue": "#0072B2", "red": "#D55E00", "purple": "#CC79A7", "grey": "#7F7F7F",
}  # fmt: skip
"""Okabe & Ito's palette, which colour-blind readers tell apart; markers tell it apart in grey."""

DASHES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}
"""Line styles of matplotlib, and what a page calls them."""

_MARKERS = "osdDvPxXphH8*+1234<>^"


def check_look(look: Any) -> tuple[str, str, str]:
    """Returns a look: colour, line style and marker.

    Raises:
      FadeoutError: it is not of three such words.

    >>> check_look(["green", "--", "D"])
    ('#009E73', '--', 'D')
    """
    if not isinstance(look, tuple | list) or [type(word) for word in look] != [str] * 3:
        raise FadeoutError(
            f"a look is a colour, a line style and a marker, not {format_value(look)}"
        )
    color, line, marker = look
    if not re.fullmatch("#[0-9a-fA-F]{6}", color):
        color = lookup(COLORS, color, "colour (or #rrggbb)")
    lookup(DASHES, line, "line style")
    lookup(dict.fromkeys(_MARKERS), marker, "marker")
    return color, line, marker
