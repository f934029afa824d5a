"""Measures fadeout against other ways to do the same: python benchmarks/bench.py --help.

Every ratio is of two things timed in turn in one process, and given as the median of the rounds
with its range. Absolute times are of this machine and of this moment.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

import plain
from fadeout import Activation, FadeoutError, Init, Model, Optimizer, Run, Training, load
from fadeout.cli.app import command
from fadeout.cli.config import Config
from fadeout.config import DEFAULT_PROBES
from fadeout.pages import write_report
from fadeout.sweeps.executors import core_count
from fadeout.sweeps.sweep import sweep
from fadeout.training.compile_groups import compile_group
from fadeout.training.fit import fit
from fadeout.training.program_cache import use_program_cache
from fadeout.training.programs import (
    CPU_OPTIONS,
    compile_fit,
    compile_group_programs,
    draw_networks,
    fit_arguments,
    fit_values,
    train_group,
)

_SHAPES = ((4, 4, 2048), (8, 2, 2048), (8, 16, 1024), (16, 8, 1024), (32, 16, 256))
"""(width, depth, runs)"""
_ROUNDS = 3
_HERE = Path(__file__).parent


def _describe_run(width, depth, seed, **changes: Any) -> Run:
    run = Run(
        Activation("relu"), Init("he_normal"), model=Model(depth, width), seed=seed,
        optimizer=Optimizer("sgd", 0.01), training=Training(300, 1), probes=("gradient_norm",),
    )  # fmt: skip
    return replace(run, **changes)


def _lanes(width, depth, runs, **changes) -> Callable[[], None]:
    """Trains runs as a sweep does, in chunks on every core; compiled before it is timed."""
    members = [_describe_run(width, depth, seed, **changes) for seed in range(runs)]
    batch, device = compile_group(members[0]), jax.local_devices()[0]
    size = batch.program.lanes
    chunks = [members[start : start + size] for start in range(0, runs, size)]
    compile_group_programs(batch, size, device)
    pool = ThreadPoolExecutor(core_count())

    def train():
        list(pool.map(lambda chunk: train_group(batch, chunk, size, device), chunks))

    return train


def _own_program_vmapped(width, depth, runs, **changes) -> Callable[[], None]:
    """The same training program, written for one network, under jax.vmap instead of lanes."""
    members = [_describe_run(width, depth, seed, **changes) for seed in range(runs)]
    batch = compile_group(members[0])
    examples, model = draw_networks(batch, members, jax.local_devices()[0])
    values = fit_values(batch, members)
    shared = {name: values.pop(name) for name in ("index", "records", "every") if name in values}
    if "depth" in values:
        shared["depth"] = values.pop("depth")[:1]  # of all the same
    single = jax.tree.map(lambda a: np.asarray(a)[..., None], (values, examples, model))

    def one(values, examples, model):
        return fit(batch.program, values | shared, examples, model)

    mapped = jax.jit(jax.vmap(one, in_axes=-2, out_axes=-2))
    compiled = mapped.lower(*single).compile(CPU_OPTIONS)
    return lambda: jax.block_until_ready(compiled(*single))


def _seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def _side_by_side(ours: Callable, theirs: Callable) -> np.ndarray:
    """How many times longer theirs takes, once a round, after one round that is not counted."""
    ours(), theirs()
    return np.array([_seconds(theirs) / _seconds(ours) for _ in range(_ROUNDS)])


def _geometric(rows: list[np.ndarray]) -> np.ndarray:
    return np.exp(np.mean(np.log(rows), axis=0))


class _Table:
    """Rows as they come, printed and kept."""

    def __init__(self):
        self.rows: list[dict] = []

    def ratio(self, what: str, against: str, ratios: np.ndarray) -> None:
        low, middle, high = np.min(ratios), np.median(ratios), np.max(ratios)
        self.add(what, against, f"{middle:.3g}x ({low:.3g} to {high:.3g})", float(middle))

    def add(self, what: str, against: str, text: str, value: float | None = None) -> None:
        self.rows.append({"what": what, "against": against, "measured": text, "value": value})
        print(f"| {what} | {against} | {text} |", flush=True)


def _throughput(table: _Table, shapes, folder: Path) -> None:
    """Training throughput against vmap of plain code, and against C."""
    fused = _build_yardstick(table, folder)
    by_vmap, by_c = [], []
    for width, depth, runs in shapes:
        steps = 300
        ours = _lanes(width, depth, runs)
        theirs = plain.vmapped(depth, width, steps, runs, CPU_OPTIONS)
        ratios = _side_by_side(ours, theirs)
        rate = runs * steps / _seconds(ours)
        shape = f"{width} x {depth}, {runs} runs ({rate:.2g} run-steps/s)"
        table.ratio(shape, "jax.vmap of plain code", ratios)
        by_vmap.append(ratios)
        if fused:

            def yardstick(depth=depth, width=width, runs=runs, steps=steps):
                words = [fused, *map(str, (runs, depth, width, steps))]
                done = subprocess.run(words, capture_output=True, text=True, check=True)
                return float(done.stdout.split()[0])

            ratios = np.array([yardstick() / _seconds(ours) for _ in range(_ROUNDS)])
            table.ratio(shape, "fused C loop", ratios)
            by_c.append(ratios)
    table.ratio("geometric mean", "jax.vmap of plain code", _geometric(by_vmap))
    if fused:
        table.ratio("geometric mean", "fused C loop", _geometric(by_c))


def _build_yardstick(table: _Table, folder: Path) -> str | None:
    compiler = shutil.which("cc")
    if compiler is None:
        table.add("throughput", "fused C loop", "skipped: no C compiler (cc) is here")
        return None
    target = folder / "fused"
    source = _HERE / "fused.c"
    flags = ["-O3", "-march=native", "-ffast-math", "-fopenmp"]
    subprocess.run([compiler, *flags, source, "-o", target, "-lm"], check=True)
    return str(target)


def _everything_recorded(table: _Table, shapes) -> None:
    """Adam and all default probes: against the same under vmap, and against no recording."""
    changes = {"optimizer": Optimizer("adam", 0.01), "training": Training(300, 10)}
    by_vmap, by_silence = [], []
    for width, depth, runs in shapes:
        ours = _lanes(width, depth, runs, **changes, probes=DEFAULT_PROBES)
        theirs = _own_program_vmapped(width, depth, runs, **changes, probes=DEFAULT_PROBES)
        by_vmap.append(_side_by_side(ours, theirs))
        silent = _lanes(width, depth, runs, **changes, probes=())
        by_silence.append(_side_by_side(ours, silent))
        shape = f"{width} x {depth}, {runs} runs, Adam, default probes every 10 steps"
        table.ratio(shape, "the same program under jax.vmap", by_vmap[-1])
        table.ratio(shape, "the same without probes", by_silence[-1])
    table.ratio("geometric mean", "the same program under jax.vmap", _geometric(by_vmap))
    table.ratio("geometric mean", "the same without probes", _geometric(by_silence))


def _compiling(table: _Table, folder: Path) -> None:
    """A program's compile time: with our options against the default, and from the cache."""
    run = _describe_run(8, 4, 0, optimizer=Optimizer("adam"), probes=DEFAULT_PROBES)
    batch, device = compile_group(run), jax.local_devices()[0]
    size = batch.program.lanes

    def compiled_in(options) -> float:
        lowered = jax.jit(lambda *a: fit(batch.program, *a)).lower(*shapes)
        return _seconds(lambda: lowered.compile(options))

    shapes = fit_arguments(batch.program, size)
    ratios = [compiled_in(CPU_OPTIONS) / compiled_in(None)
              for _ in range(_ROUNDS)]  # fmt: skip
    table.ratio("compile time, cold", "XLA's default options", np.array(ratios))
    use_program_cache(str(folder / "compiled"))
    compile_uncached = compile_fit.__wrapped__  # type: ignore[attr-defined]
    cold = _seconds(lambda: compile_uncached(batch.program, size, device))
    warm = _seconds(lambda: compile_uncached(batch.program, size, device))
    use_program_cache(None)
    table.add("compile time, warm", "cold", f"{warm / cold:.2g}x ({cold:.1f} s cold)", warm / cold)


def _scaling(table: _Table) -> None:
    """Run-steps per second over runs, depth and width."""

    def rate(width, depth, runs):
        train = _lanes(width, depth, runs, training=Training(100, 10))
        train()
        return f"{runs * 100 / min(_seconds(train) for _ in range(_ROUNDS)):.2g}"

    for what, shapes in (
        ("runs 1, 128, 1024, 8192 (8 x 4)", [(8, 4, n) for n in (1, 128, 1024, 8192)]),
        ("depth 1, 4, 16, 64 (width 8, 1024 runs)", [(8, d, 1024) for d in (1, 4, 16, 64)]),
        ("width 4, 16, 64, 256 (depth 4, 256 runs)", [(w, 4, 256) for w in (4, 16, 64, 256)]),
    ):
        table.add(what, "run-steps/s", ", ".join(rate(*shape) for shape in shapes))


def _against_torch(table: _Table) -> None:
    try:
        import torch
    except ImportError:
        table.add("throughput", "PyTorch", "skipped: pip install torch to measure it")
        return
    for width, depth, runs in ((8, 2, 2048), (16, 8, 1024)):
        ours = _lanes(width, depth, runs)
        ours()
        rate = runs * 300 / min(_seconds(ours) for _ in range(_ROUNDS))
        loop = 100 / min(plain.torch_loop(torch, depth, width, 100) for _ in range(_ROUNDS))
        mapped = min(plain.torch_vmapped(torch, depth, width, 20, runs) for _ in range(_ROUNDS))
        shape = f"{width} x {depth}, {runs} runs"
        table.add(shape, f"PyTorch {torch.__version__} loop", f"{rate / loop:.3g}x", rate / loop)
        ratio = rate / (20 * runs / mapped)
        table.add(shape, "torch.func.vmap", f"{ratio:.3g}x", ratio)


def _waited(*words: object) -> tuple[float, float]:
    """Seconds that a command takes, and until its first line."""
    began, first = time.perf_counter(), None
    command = list(map(str, words))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for _ in process.stdout or ():
            first = first or time.perf_counter() - began
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    took = time.perf_counter() - began
    return took, first or took


def _answers(table: _Table, folder: Path) -> None:
    """What a person waits for: whole commands, pictures included, with nothing kept (cold) and with
    every program kept (warm); against a plain notebook, and against the imports alone."""
    train = (sys.executable, "-m", "fadeout", "train")
    imports = "import jax, flax, optax, matplotlib.pyplot"
    demo = ("-m", "+experiment=demo")
    depths = (
        "-m",
        "activation=step,sigmoid,tanh,relu",
        "model.depth=range(1,65)",
        "seed=range(0,5)",
    )
    rows: dict[str, list[float]] = {}

    def ours(what: str, *words: str) -> None:
        for number in range(_ROUNDS):
            places = (
                f"outputs={folder / what}-{number}",
                f"cache={folder / what}-{number}/programs",
            )
            for when in ("cold", "warm"):
                took, first = _waited(*train, *words, f"name={when}", *places)
                rows.setdefault(f"{what}, {when}", []).append(took)
                rows.setdefault(f"{what}, {when}, first line", []).append(first)
            if what == "demo":
                notebook = _HERE / "notebook.py"
                rows.setdefault("notebook", []).append(_waited(sys.executable, notebook)[0])
            if what == "one run":
                alone = _waited(sys.executable, "-c", imports)[0]
                rows.setdefault("imports", []).append(alone)

    def ratio(what: str, against: str, ratios: np.ndarray) -> None:
        table.ratio(f"{what} ({np.median(rows[what]):.1f} s)", against, ratios)

    ours("demo", *demo)
    ours("one run")
    for when in ("cold", "warm"):
        ratio(f"demo, {when}", "the notebook", np.divide(rows["notebook"], rows[f"demo, {when}"]))
        lines = np.median(rows[f"demo, {when}, first line"])
        table.add(f"demo, {when}", "time to the first line", f"{lines:.1f} s", float(lines))
        times = np.divide(rows[f"one run, {when}"], rows["imports"])
        table.ratio(f"one run, {when} ({np.median(rows[f'one run, {when}']):.1f} s)",
                    "times the imports of jax, flax, optax and matplotlib", times)  # fmt: skip
    took, _ = _waited(*train, *depths, "name=depths", f"outputs={folder}", f"cache={folder}/depths")
    table.add("64 depths x 4 activations x 5 seeds, cold", "wall time", f"{took:.0f} s", took)


def _whole_command(table: _Table, folder: Path) -> None:
    """10,000 runs from the command line, against Hydra's basic launcher on 20 of them."""

    def command(*words):
        script = [sys.executable, "-m", "fadeout", "train", "-m", f"outputs={folder}", *words]
        return _seconds(lambda: subprocess.run(script, check=True, stdout=subprocess.DEVNULL))

    ours = command("+experiment=ten_thousand")
    theirs = command(
        "+experiment=ten_thousand", "name=basic", "hydra/launcher=basic", "hydra/sweeper=basic",
        "model.depth=1,2,4,8,16", "activation=tanh,relu", "seed=0,1",
    )  # fmt: skip
    ratio = theirs / 20 * 10_000 / ours
    text = f"{ratio:.3g}x ({ours:.0f} s, pictures included)"
    table.add("multirun of 10,000 runs", "Hydra's basic launcher, from 20 jobs", text, ratio)
    _page_of(table, folder / "ten_thousand")


def _page_of(table: _Table, sweep_folder: Path) -> None:
    """Size of the report of 10,000 runs, and how long a browser takes until it can be used."""
    what, against = "report of 10,000 runs", "one HTML file, opened in Chromium"
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright

        page = write_report(load(sweep_folder), "ten_thousand", sweep_folder / "report.html")
    except (ImportError, FadeoutError) as error:
        table.add(what, against, f"skipped: {error}")
        return
    size = page.stat().st_size / 1e6
    if browser is None:
        table.add(what, against, f"{size:.1f} MB; not opened: no chromium", size)
        return

    def open_page():
        opened = chromium.new_page()
        opened.goto(page.absolute().as_uri())
        opened.wait_for_selector("body[data-ready=yes]")
        opened.close()

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        ready = min(_seconds(open_page) for _ in range(_ROUNDS))
        chromium.close()
    table.add(what, against, f"{size:.1f} MB, ready in {ready:.1f} s", size)


_MEMORY = "memory-of"


def _memory(table: _Table, most: int) -> None:
    """Peak resident memory of a sweep over its number of runs."""
    if not Path("/proc/self/status").exists():
        table.add("peak memory", "runs", "skipped: only Linux tells a process its peak")
        return
    for count in [n for n in (10**4, 10**5, 10**6) if n <= most]:
        words = [sys.executable, __file__, _MEMORY, str(count)]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        peak, took = done.stdout.split()
        text = f"{peak} MB ({took} s)"
        table.add(f"peak memory, {count:,} runs", "8 x 2, 20 steps", text, float(peak))


def _memory_of(count: int) -> None:
    axes = {"learning_rate": f"logspace:-3:0:{count // 100}", "seed": "range:0:100"}
    training = Training(20, 20)
    config = Config(axes=axes, training=training, probes=(), model=Model(2, 8))
    with tempfile.TemporaryDirectory() as folder:
        took = _seconds(lambda: sweep(config.runs(), folder))
    status = Path("/proc/self/status").read_text()  # getrusage would count the parent's peak
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    print(int(peak) // 1024, round(took))


def run() -> int:
    if sys.argv[1:2] == [_MEMORY]:
        _memory_of(int(sys.argv[2]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows there as well")
    parser.add_argument("--quick", action="store_true", help="fewer shapes, no whole commands")
    words = "only the time to an answer: whole commands against a notebook"
    parser.add_argument("--answers", action="store_true", help=words)
    arguments = parser.parse_args()
    quick = arguments.quick
    table = _Table()
    print(f"{jax.devices()[0].device_kind}, {core_count()} cores, jax {jax.__version__}")
    print("| what | against | measured |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if not quick:
            _answers(table, place)
        if not arguments.answers:
            shapes = _SHAPES[:2] if quick else _SHAPES
            _throughput(table, shapes, place)
            _everything_recorded(table, shapes[1:4])
            _compiling(table, place)
            _against_torch(table)
            _memory(table, 10**5 if quick else 10**6)
        if not quick and not arguments.answers:
            _scaling(table)
            _whole_command(table, place)
    if arguments.json:
        arguments.json.write_text(json.dumps(table.rows, indent=2))
    return 0


def main() -> int:
    return command(run)


if __name__ == "__main__":
    sys.exit(main())
