"""Pictures of results by matplotlib, which no other room imports.

For other rooms: `compare` gives a figure, and the functions below write files. The figures of a
sweep stand in `figures`, comparisons in `comparison`, and how all of them look in `style`.
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
    save_neurons,
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
    "save_neurons",
]
