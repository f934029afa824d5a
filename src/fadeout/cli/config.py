"""The root of conf/: runs, where their results go, and what is drawn of them."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from fadeout.analysis.looks import DEFAULT_FORMATS, check_formats
from fadeout.config import Run
from fadeout.registry import FadeoutError
from fadeout.sweeps.grids import expand_grid


@dataclass(frozen=True)
class Config(Run):
    """A run, where its results go, and where compiled programs are kept: the root of conf/.

    With `forecast`, nothing is trained: what it would take is told. With `skip_impossible`, runs
    that cannot be trained are left out and named, instead of refused all together. `axes` spans a
    grid of runs (`grids.expand_grid`); those that `zipped` names advance together. `figure` is
    drawn besides those that every sweep gets (`analysis.comparison.Comparison`), and all pictures
    in these `formats`; without any, none is drawn.
    `extensions` are files and modules of a user's own, imported before anything is looked up.
    """

    name: str = "unnamed"
    outputs: str = "outputs"
    cache: str | None = "auto"
    forecast: bool = False
    skip_impossible: bool = False
    axes: dict[str, Any] = field(default_factory=dict)
    zipped: tuple[str, ...] = ()
    figure: dict[str, Any] = field(default_factory=dict)
    formats: tuple[str, ...] = DEFAULT_FORMATS
    extensions: tuple[str, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        path = PurePath(self.name)
        too_long = any(len(part.encode(errors="replace")) > 200 for part in path.parts)
        hidden = any(part.startswith(".") for part in path.parts)
        if (
            not path.parts
            or path.is_absolute()
            or hidden
            or too_long
            or not self.name.isprintable()
        ):
            raise FadeoutError(
                f"name must be a folder below outputs, of printable characters and not hidden, not "
                f"{self.name!r}"
            )
        if self.formats:
            check_formats(self.formats)
        for key in ("outputs", "cache"):
            if str(getattr(self, key)).startswith("~"):
                object.__setattr__(self, key, str(Path(getattr(self, key)).expanduser()))
            if not str(getattr(self, key)).isprintable():
                raise FadeoutError(
                    f"{key} must be of printable characters, not {getattr(self, key)!r}"
                )

    def folder(self) -> Path:
        """The folder of the results."""
        return Path(self.outputs) / self.name

    def runs(self) -> Sequence[Run]:
        """One run, or the grid that the axes span around it."""
        return expand_grid(self.run(), self.axes, self.zipped)

    def run(self) -> Run:
        return Run(**{f.name: getattr(self, f.name) for f in dataclasses.fields(Run)})
