"""Pictures of results: statistics beside drawing. The only room that knows matplotlib."""

from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from fadeout.claims import Claim, Finding, Verdict
from fadeout.plots import style
from fadeout.plots.comparison import Comparison, compare
from fadeout.plots.figures import FIGURES
from fadeout.plots.forest import forest


def save_all(
    results: xr.Dataset, folder: str | Path, asked: Comparison | None = None
) -> list[Path]:
    """Draws every figure that the recorded probes allow, as PNG and SVG.

    Args:
      results: as `fadeout.load` gives them.
      folder: where the pictures go.
      asked: one more, as <folder>/comparison.png.

    Returns:
      The files written; drawn twice from the same results they are equal byte for byte.
    """
    paths: list[Path] = []
    with style.styled():
        for name, (draw, needs) in FIGURES.items():
            if not needs or any(probe in results for probe in needs):
                paths += style.save(draw(results), Path(folder), name)
        if asked is not None:
            paths += style.save(compare(results, asked), Path(folder), "comparison")
    return paths


def save_comparison(
    results: xr.Dataset, asked: Comparison, folder: str | Path, name: str = "comparison"
) -> list[Path]:
    """Draws one comparison as <folder>/<name>.png and .svg.

    Raises:
      FadeoutError: a quantity or an axis that the results lack.
    """
    with style.styled():
        figure = compare(results, asked)
        Path(folder).mkdir(parents=True, exist_ok=True)
        return style.save(figure, Path(folder), name)


def save_claim(
    name: str, claim: Claim, findings: Sequence[Finding], verdict: Verdict, folder: Path
) -> list[Path]:
    """Draws a judged claim as <folder>/<name>.png and .svg."""
    with style.styled():
        return style.save(forest(claim, findings, verdict), folder, name)
