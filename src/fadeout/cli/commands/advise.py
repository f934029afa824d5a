"""What to choose before training, by theory: initialisers and remedies for a deep network.

fadeout advise gelu --depth 50
fadeout advise leaky_relu --option slope=0.2 --measure
fadeout advise                          the table of all activations
"""

import argparse
from pathlib import Path

from fadeout.cli.app import command
from fadeout.extensions import load_extensions
from fadeout.registry import FadeoutError

_COLUMN_FORMATS = {
    "weight_variance": "{:.3g}", "variance": "{:.3g}", "chi": "{:.3f}", "decades": "{:+.1f}",
    "measured": "{:+.1f}", "reach": "{:.0f}", "born_dead": "{:.1%}",
}  # fmt: skip


def run() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("activation", nargs="?")
    parser.add_argument("--depth", type=int, default=50)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--bias-variance", type=float, default=0.0)
    parser.add_argument(
        "--option", action="append", default=[], help="of the activation: slope=0.2"
    )
    parser.add_argument("--measure", action="store_true", help="draws networks as well")
    parser.add_argument("--extensions", nargs="*", default=[], help="files of your own")
    parser.add_argument("--csv", type=Path, help="writes the table")
    chosen = parser.parse_args()
    load_extensions(chosen.extensions)
    from fadeout.advice import advise, advise_all

    if chosen.activation is None:
        if chosen.measure or chosen.option or chosen.bias_variance:
            raise FadeoutError(
                "the table of all activations takes --depth and --width alone: name an activation, "
                "or leave --measure, --option and --bias-variance out"
            )
        frame = advise_all(chosen.depth, chosen.width)
    else:
        frame = advise(
            chosen.activation, chosen.depth, chosen.width, chosen.bias_variance, chosen.measure,
            **dict(map(_parse_option, chosen.option)),
        )  # fmt: skip
    if chosen.csv is not None:
        frame.to_csv(chosen.csv)
    shown = frame.copy()
    for name in shown.columns:
        form = _COLUMN_FORMATS.get(name, "{:+.1f}")
        shown[name] = [v if isinstance(v, str) else "" if v != v else form.format(v)
                       for v in frame[name]]  # fmt: skip
    print(shown.to_string())
    if "advice" in frame.attrs:
        print(frame.attrs["advice"])
    return 0


def _parse_option(text: str) -> tuple[str, float]:
    key, _, value = text.partition("=")
    try:
        return key, float(value)
    except ValueError:
        raise FadeoutError(f"--option {text}: write it as slope=0.2") from None


def main() -> int:
    return command(run)
