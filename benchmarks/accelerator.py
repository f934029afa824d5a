"""What matters on a GPU or TPU, in one command of at most eight minutes.

    python benchmarks/accelerator.py [--seconds 480]

1. Agreement: the same runs on the accelerator and on this machine's CPU.
2. Lanes: run-steps a second of 4 x 4 to 64 x 8 networks, by the networks in a block.
3. Depths: the seconds to compile a program, of which an accelerator needs one for each depth.
4. Shapes: fadeout against `jax.vmap` of plain code, as `shapes.py` has it.

Rows are printed as they come; what there is no time for is left out, and said. Without an
accelerator it measures the CPU, which shows that the script works and nothing else.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace

import jax
import numpy as np

import shapes
from fadeout import Activation, Init, Model, Optimizer, Run, Task, Training
from fadeout.training.compile_groups import compile_group
from fadeout.training.programs import (
    compile_group_programs,
    draw_networks,
    fit_networks,
    train_runs,
)
from fadeout.training.resolve import resolve

BASE = Run(
    Activation("tanh"), Init("he_normal"), Task("xor"), Model(4, 8),
    Optimizer("sgd", learning_rate=0.1), Training(200, 20),
)  # fmt: skip

ALIKE = {
    "tanh, 4 x 8": BASE,
    "sigmoid, 16 x 8": replace(BASE, activation=Activation("sigmoid"), model=Model(16, 8)),
    "gelu, Adam, width 64": replace(
        BASE, activation=Activation("gelu"), model=Model(4, 64), optimizer=Optimizer("adam", 0.003)
    ),
    "relu, circles, residual, layer norm": replace(
        BASE, activation=Activation("relu"), task=Task("circles", examples=128),
        model=Model(8, 16, residual=1.0, normalization="layer"),
    ),
}  # fmt: skip

WIDE = ((4, 4), (8, 8), (16, 8), (64, 8))
"""Width and depth of the networks whose lanes are counted."""


def agreement(device: jax.Device) -> Iterator[str]:
    """The largest difference of any probe at step 0, and of the loss after all steps."""
    yield "| run | probes at step 0, relative | last loss, relative |"
    yield "|---|---|---|"
    cpu = jax.devices("cpu")[0]
    for name, run in ALIKE.items():
        runs = [replace(run, seed=seed) for seed in range(8)]
        here, there = (train_runs(runs, device=where) for where in (device, cpu))
        first = max(
            _relative(here.layers[probe][0], there.layers[probe][0]) for probe in here.layers
        )
        yield f"| {name} | {first:.1e} | {_relative(here.loss[-1], there.loss[-1]):.1e} |"


def _relative(a, b) -> float:
    """The largest difference relative to the largest value, of what both have."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    both = np.isfinite(a) & np.isfinite(b)
    return float(np.max(np.abs(a - b)[both], initial=0) / np.max(np.abs(b)[both], initial=1e-30))


def by_lanes(device: jax.Device, counts: tuple[int, ...]) -> Iterator[str]:
    yield (
        "| width x depth | the package's own | " + " | ".join(f"{n:,} lanes" for n in counts) + " |"
    )
    yield "|---" * (len(counts) + 2) + "|"
    for width, depth in WIDE:
        run = resolve(replace(BASE, model=Model(depth, width), probes=("gradient_norm",)))
        group = compile_group(run)
        cells = [f"{group.program.lanes:,}"]
        for count in counts:
            runs = [run.replace_unchecked(seed=seed) for seed in range(count)]
            compile_group_programs(group, count, device)
            drawn = draw_networks(group, runs, device)
            fit_networks(group, runs, device, *drawn)
            took = min(
                shapes.seconds(lambda: fit_networks(group, runs, device, *drawn))  # noqa: B023
                for _ in range(3)
            )
            cells.append(f"{count * run.training.steps / took:.2g}")
        yield f"| {width} x {depth} | " + " | ".join(cells) + " |"


def by_depth(device: jax.Device) -> Iterator[str]:
    yield "| depth | seconds to compile |"
    yield "|---|---|"
    for depth in (2, 8, 32, 64):
        group = compile_group(resolve(replace(BASE, model=Model(depth, 8))))
        took = shapes.seconds(lambda: compile_group_programs(group, group.program.lanes, device))  # noqa: B023
        yield f"| {depth} | {took:.1f} |"


def by_shape(device: jax.Device, runs: int) -> Iterator[str]:
    yield "| width x depth, examples | against vmap |"
    yield "|---|---|"
    for width, depth, examples, _, _ in shapes.QUICK:
        took = shapes.compare(width, depth, examples, runs, 300, 3, 1, single=False)
        yield f"| {width} x {depth}, {examples} | {took['vmap'] / took['fadeout']:.2f}x |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=480)
    ends = time.perf_counter() + parser.parse_args().seconds
    device = jax.devices()[0]
    accelerated = device.platform != "cpu"
    counts = (256, 1024, 4096, 16384) if accelerated else (16, 64)
    print(f"{device.device_kind}, jax {jax.__version__}")
    for title, rows in {
        "agreement with the CPU": agreement(device),
        "run-steps a second, by lanes": by_lanes(device, counts),
        "programs by depth": by_depth(device),
        "shapes": by_shape(device, 4096 if accelerated else 64),
    }.items():
        print(f"\n{title}")
        for row in rows:
            print(row, flush=True)
            if time.perf_counter() > ends:
                print("no time is left: other rows are not measured")
                return


if __name__ == "__main__":
    main()
