"""Pictures of results by matplotlib, which no other package imports.

Other packages use `compare`, which gives a figure, and the functions below, which write files. The
figures of a sweep are in `figures`, comparisons in `comparison`, and the common look in `style`.
"""

from fadeout.analysis.comparison import Comparison
from fadeout.plots.saving import (
    NOTE_ACTIVATIONS,
    compare,
    informative_figures,
    save_all,
    save_atlas,
    save_claim,
    save_comparison,
    save_each,
    save_network,
    save_neurons,
    save_scaling,
    save_versus,
)

__all__ = [
    "NOTE_ACTIVATIONS",
    "Comparison",
    "compare",
    "informative_figures",
    "save_all",
    "save_atlas",
    "save_claim",
    "save_comparison",
    "save_each",
    "save_network",
    "save_neurons",
    "save_scaling",
    "save_versus",
]
