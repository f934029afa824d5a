"""Draws a neuron, a chain of neurons, and how a small network comes to solve XOR.

fadeout neuron
fadeout neuron --activation relu --width 3 --seed 4 --frames 40
"""

import argparse
from pathlib import Path

from fadeout.cli.app import command
from fadeout.registry import FadeoutError


def run() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--activation", default="tanh", help="of the network that learns XOR")
    parser.add_argument("--width", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--style", default="screen", help="screen, talk or paper")
    parser.add_argument("--to", type=Path, default=Path("outputs/neuron"))
    chosen = parser.parse_args()
    from fadeout import Activation, Init, Model, Optimizer, Run, Training
    from fadeout.plots import save_neurons
    from fadeout.training.snapshots import train_with_snapshots

    if chosen.frames < 1:
        raise FadeoutError(f"--frames must be at least 1, not {chosen.frames}")
    steps = chosen.frames * (240 // max(chosen.frames, 1) or 1)
    run = Run(
        Activation(chosen.activation), Init("glorot_normal"),
        model=Model(depth=1, width=chosen.width), seed=chosen.seed,
        optimizer=Optimizer("sgd", learning_rate=1.0), training=Training(steps, steps),
    )  # fmt: skip
    frames = range(0, steps + 1, steps // chosen.frames)
    paths = save_neurons(run, train_with_snapshots(run, frames), chosen.to, chosen.style)
    print("\n".join(str(path) for path in paths if path.suffix in (".png", ".gif")))
    return 0


def main() -> int:
    return command(run)
