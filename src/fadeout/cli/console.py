"""What a person sees in the terminal. The only room that knows rich."""

import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TextIO

import numpy as np
import xarray as xr
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from fadeout.analysis import groups
from fadeout.analysis.groups import subsample
from fadeout.analysis.verdicts import NEEDED, verdict_shares, verdicts
from fadeout.claims import Claim, Finding, Verdict
from fadeout.cli.config import Config
from fadeout.config import Run
from fadeout.networks.activations import in_table_order
from fadeout.networks.tasks import describe_task
from fadeout.registry import printable
from fadeout.sweeps.forecast import Forecast
from fadeout.sweeps.results import final_values
from fadeout.sweeps.sweep import OnProgress, Summary
from fadeout.sweeps.training_queue import CompiledProgram
from fadeout.sweeps.variables import STATUSES, is_share

console = Console(highlight=False, soft_wrap=True, markup=False)


def quiet_libraries() -> None:
    """Silences the libraries' own log lines."""
    logging.getLogger("jax").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="jax|flax|optax|xarray|h5netcdf")


@contextmanager
def announce_solving(configs: Sequence[Config]) -> Iterator[None]:
    """Announces the solving of the edge of chaos, which takes a second for each activation."""
    names = {
        config.activation.name
        for config in configs
        if config.init.name == "critical" and "weight_variance" not in dict(config.init.options)
    }
    words = f"solving for the edge of chaos of {', '.join(in_table_order(sorted(names)))}"
    if not names:
        yield
    elif console.is_terminal:
        with console.status(words):
            yield
    else:
        print(words, flush=True)
        yield


@contextmanager
def progress(lines: TextIO | None = None) -> Iterator[OnProgress]:
    """One bar for a sweep and a line for each program; plain lines where there is no terminal.

    Args:
      lines: where these go, and what ends them; by default standard output, where other lines
        follow.
    """
    began = perf_counter()
    left = TimeLeft()
    if not console.is_terminal:
        soon = began  # what there is to do; what is done after two seconds, and then every ten
        last, said = Summary(), False

        def say(words: str) -> None:
            nonlocal said
            said = True
            print(words, file=lines or sys.stdout, flush=True)

        def report(summary: Summary) -> None:
            nonlocal soon, last
            now, last = perf_counter(), summary
            if soon == began:
                soon = began + 2
                if (todo := summary.asked - summary.done) >= _WORTH_A_LINE:
                    programs = _format_count(summary.to_compile, "program")
                    say(f"{todo} runs to train, {programs} to compile")
            elif now > soon:
                soon = now + 10
                stands = _format_progress(summary, now - began)
                say(f"{summary.done} of {summary.asked} runs, {stands}, {left(summary, now)}")

        yield report
        if lines and said:
            say(f"{_format_count(last.done, 'run')}, done in {perf_counter() - began:.0f} s")
        return
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("training", total=None, state="compiling")
        told = 0

        def watch(summary: Summary) -> None:
            nonlocal told
            for program in summary.compiled[told:]:
                bar.console.print(_program_line(program))
            told = len(summary.compiled)
            seconds = perf_counter() - began
            text = f"{_format_progress(summary, seconds)}, {left(summary, perf_counter())}"
            bar.update(task, total=summary.asked, completed=summary.done, state=text)

        yield watch


_WORTH_A_LINE = 100
"""Runs of which it is said that they begin."""


def _program_line(program: CompiledProgram) -> str:
    how = "from the cache" if program.cached else "compiled"
    return f"program:  {program.program}: {how} in {program.seconds:.1f} s"


def _format_progress(summary: Summary, seconds: float) -> str:
    """How a sweep stands, in a few words."""
    words = [f"{len(summary.compiled)} of {summary.to_compile} programs compiled"]
    if summary.run_steps:
        words.append(f"{summary.run_steps / seconds:.2g} run-steps/s")
    elif summary.outcomes:
        words.append(f"{summary.outcomes.total() / seconds:.2g} runs/s")
    return ", ".join(words + [f"{n} {status}" for status, n in summary.outcomes.items()])


class TimeLeft:
    """How long a sweep still takes at the speed since its first runs were done, which does not
    count the compiling before."""

    first: tuple[float, int] | None = None

    def __call__(self, summary: Summary, now: float) -> str:
        trained = summary.outcomes.total()
        if not trained:
            done = len(summary.compiled)
            if done == summary.to_compile:
                return "training"
            return f"compiling {' and '.join(summary.compiling) or done + 1}"
        if self.first is None:
            self.first = now, trained
        since, before = self.first
        if trained == before:
            return "training"
        left = (now - since) / (trained - before) * (summary.asked - summary.done)
        return f"{left:.0f} s left"


def show_results(results: xr.Dataset) -> None:
    """Prints how the runs ended."""
    if results.sizes["run"] == 1:
        run = results.isel(run=0)
        if run["status"].item() != "failed":
            console.print(_layer_table(run))
        console.print(_format_outcome(run))
    else:
        if (results["status"] != "trained").any():
            console.print(_accuracy_line(results))
            console.print(share_table(results))
        counts = ", ".join(f"{n} {word}" for word, n in _status_counts(results).items())
        console.print(f"{results.sizes['run']} runs: {counts}")
        if set(results) >= NEEDED:
            console.print(verdict_line(results))


def show_places(folder: Path, pictures: Sequence[Path], failures: Mapping[str, str]) -> None:
    """Prints where results and pictures are, and which pictures could not be drawn."""
    console.print(f"results:  {folder}")
    suffixes = list(dict.fromkeys(path.suffix for path in pictures))
    if suffixes:
        names = [path.name for path in pictures if path.suffix == suffixes[0]]
        also = f" (also {', '.join(suffixes[1:])})" if suffixes[1:] else ""
        console.print(f"pictures: {', '.join(names)}{also}, in {folder}")
    for name, error in failures.items():
        console.print(f"{name} could not be drawn: {printable(error)}")


def show_data(runs: Iterable[Run]) -> None:
    """A line for each table or arrays that runs learn, before they are trained."""
    for line in data_lines(runs):
        console.print(f"data:     {line}")


def data_lines(runs: Iterable[Run]) -> list[str]:
    tasks = dict.fromkeys(run.task for run in runs)
    return [printable(words) for task in tasks if (words := describe_task(task))]


def show_account(summary: Summary, compose_seconds: float, wall_seconds: float) -> None:
    """Prints what a sweep trained, how long it took, and what went wrong."""
    for error in summary.errors:
        console.print(f"failed: {printable(error.splitlines()[0])}")
    if summary.repeated:
        console.print(
            f"{_format_count(summary.repeated, 'run')} asked for more than once, trained once"
        )
    if summary.stored:
        were = "was" if summary.stored == 1 else "were"
        console.print(
            f"{_format_count(summary.stored, 'run')} {were} stored already "
            f"and {were} not trained again"
        )
    if summary.others:
        console.print("another process wrote into the folder: each trained what the other had not")
    if summary.asked == 1:
        return
    trained = {word: summary.outcomes[word] for word in STATUSES if summary.outcomes[word]}
    cached = sum(program.cached for program in summary.compiled)
    reasons = dict.fromkeys(why for program in summary.compiled for why in program.refused)
    refused = f"; not all that lay there could be used: {'; '.join(reasons)}" if reasons else ""
    rows = {
        "runs": f"{summary.asked}: "
        + ", ".join(
            [f"{summary.stored} stored before"] * bool(summary.stored)
            + [f"{count} {word}" for word, count in trained.items()]
        ),
        "programs": f"{len(summary.compiled)}, {cached} of them from the cache{refused}",
        "wall time": f"{wall_seconds:.1f} s, before pictures",
        "compose": f"{compose_seconds:.1f} s",
        "compile": f"{summary.compile_seconds:.1f} s over all threads",
        "train": f"{summary.train_seconds:.1f} s over all threads",
        "store": f"{summary.store_seconds:.1f} s",
    }
    table = Table(show_header=False)
    for row in rows.items():
        table.add_row(*row)
    console.print(table)


def show_forecast(forecast: Forecast, folder: Path) -> None:
    """Prints the forecast of a sweep."""
    todo = forecast.asked - forecast.stored
    console.print(
        f"{folder}: {_format_count(forecast.asked, 'run')}, "
        f"{forecast.stored} of them stored already"
    )
    if not todo:
        console.print("nothing is left to train")
        return
    console.print(
        f"to train: {_format_count(todo, 'run')} in {_format_count(forecast.programs, 'program')}, "
        f"{_format_count(forecast.chunks, 'chunk')}"
    )
    console.print(
        f"about {forecast.compile_seconds:.0f} s to compile (less what the cache holds) and "
        f"{forecast.train_seconds:.1f} s to train; writing and drawing come on top"
    )
    console.print(f"memory for results in flight: {forecast.memory / 1e6:.0f} MB")
    console.print(f"disk: {forecast.disk / 1e6:.0f} MB")


def _format_count(count: int, word: str) -> str:
    """
    >>> _format_count(1, "run"), _format_count(1200, "run")
    ('1 run', '1200 runs')
    """
    return f"{count} {word}{'s' * (count != 1)}"


def verdict_line(results: xr.Dataset) -> str:
    """The share of each verdict, with its Wilson 95 % interval; of several activations, a line for
    each."""
    found, seeds = verdicts(results), results["seed"].values
    activation = results["activation"].values

    def line(own: np.ndarray) -> str:
        shares = verdict_shares(found[own], seeds[own]).items()
        return ", ".join(f"{word} {s.value:.0%} [{s.low:.0%}, {s.high:.0%}]" for word, s in shares)

    names = in_table_order(sorted(set(activation.tolist())))
    if not 1 < len(names) <= 8:
        return "verdicts: " + line(np.full(found.size, True))
    width = max(map(len, names))
    results = groups.with_remedy(results)
    others = [n for n in (*groups.rows_that_fit(results, 0)[1],) if n != "activation"]
    over = f" (pooled over {', '.join(others)})".replace("_", " ") if others else ""
    return "\n".join(
        [f"verdicts{over}:", *(f"  {n:<{width}}  {line(activation == n)}" for n in names)]
    )


def _status_counts(results: xr.Dataset) -> dict[str, int]:
    words, counts = np.unique(results["status"].values.astype(str), return_counts=True)
    return dict(zip(words, counts, strict=True))


def _layer_table(run: xr.Dataset) -> Table:
    """One run, layer by layer."""
    depth, steps = int(run["depth"]), int(run["steps"])
    first, last = run.sel(step=0), run.sel(step=steps)
    table = Table(title=f"{run['activation'].item()}, depth {depth}, {run['init'].item()}")
    table.add_column("layer")
    cells: list[xr.DataArray] = []

    def column(title: str, name: str, at: xr.Dataset) -> None:
        if name in run:
            table.add_column(title, justify="right")
            cells.append(at[name])

    column("||delta|| at step 0", "delta_norm", first)
    column(f"at step {steps}", "delta_norm", last)
    column("||dL/dW|| at step 0", "gradient_norm", first)
    column(f"at step {steps}", "gradient_norm", last)
    column("saturated", "saturation", last)
    column("dead", "dead_units", last)
    for layer in range(1, depth + 2):
        values = [float(cell.sel(layer=layer)) for cell in cells]
        shares = [is_share(str(cell.name)) for cell in cells]
        table.add_row(
            "readout" if layer == depth + 1 else str(layer),
            *(_cell_text(*pair) for pair in zip(values, shares, strict=True)),
        )
    return table


def _cell_text(value: float, share: bool) -> str:
    if np.isnan(value):
        return "-" if share else "nan"
    return f"{value:.0%}" if share else f"{value:.3g}"


def _format_outcome(run: xr.Dataset) -> str:
    status = run["status"].item()
    loss = float(run["loss"].sel(step=int(run["steps"])))
    if status == "solved":
        return f"solved at step {int(run['solved_step'])}; final loss {loss:.3g}"
    if status == "diverged":
        where = int(run["diverged_layer"])
        way = "forwards, the preactivations" if run.get("diverged_backward", 0) == 0 else (
            "backwards, the gradient"
        )  # fmt: skip
        step = int(run["diverged_step"])
        return f"diverged at step {step}: {way} of layer {where} overflowed first"
    if status == "failed":
        return "failed: " + printable(run["error"].item().strip().splitlines()[-1])
    if status == "trained":
        return f"trained: final loss {loss:.3g}"
    accuracy = float(run["accuracy"].sel(step=int(run["steps"])))
    return f"unsolved: {accuracy:.0%} of the examples right; final loss {loss:.3g}"


LABEL_WIDTH, CELL_WIDTH = 14, 13
"""Columns of text that the names of activations take, and a share of runs."""


_MAX_ROWS = 16


def share_table(results: xr.Dataset) -> Table:
    """Share of runs solved over depth; a row for each value of whatever else varies, and what makes
    too many rows is named."""
    results = groups.with_remedy(results)
    names, pooled = groups.rows_that_fit(results, _MAX_ROWS)
    depths = np.unique(results["depth"].values)
    room = console.width - LABEL_WIDTH * len(names)
    shown = subsample(depths.tolist(), max(2, room // CELL_WIDTH))
    fewer = f", {len(shown)} of {depths.size} depths" if len(shown) < depths.size else ""
    over = f", pooled over {', '.join(pooled)}".replace("_", " ") if pooled else ""
    table = Table(title=f"share of runs solved{fewer}{over}")
    for name in names:
        table.add_column(name.replace("_", " "))
    for depth in shown:
        table.add_column(f"depth {depth}", justify="right")
    solved = results["status"].values == "solved"
    for row, own in groups.group_by(results, names):
        cells = []
        for depth in shown:
            group = solved[own][results["depth"].values[own] == depth]
            cells.append(f"{group.mean():.0%} of {group.size}" if group.size else "-")
        table.add_row(*map(printable, row), *cells)
    return table


def _accuracy_line(results: xr.Dataset) -> str:
    """How many examples the networks end with right: of many examples few networks have all."""
    ends = {
        "accuracy": "of the examples right",
        "validation_accuracy": "of those held out",
    }
    found = []
    for name, what in ends.items():
        if name in results and np.isfinite(values := final_values(results[name]).values).any():
            low, middle, high = np.nanquantile(values, [0.1, 0.5, 0.9])
            found.append(f"{middle:.1%} {what} [{low:.1%}, {high:.1%}]")
    return f"accuracy: median {', '.join(found)}; solved means all of them"


def show_claim(name: str, claim: Claim, findings: Sequence[Finding], verdict: Verdict) -> None:
    """A judged claim: the verdict, and every finding that decided it."""
    console.print(f"\n{name}: {claim.headline(verdict)}", style="bold")
    console.print(f"  “{claim.sentence}” ({claim.source})")
    if str(verdict) != verdict.word:
        console.print(f"  {verdict}")
    answers = {True: "yes", False: "no", None: "undecided"}
    for quantity, rule in claim.rules.items():
        own = [finding for finding in findings if finding.quantity == quantity]
        table = Table(box=None, show_header=bool(own), pad_edge=False)
        table.add_column(f"  {quantity} ({rule})", min_width=60)
        for title in ("measured", "95 % interval", "expected", "supports"):
            table.add_column(title, justify="right", no_wrap=True)
        for finding in own:
            low, value, high = finding.measured
            interval = "no spread" if low == high else f"{low:.3g} to {high:.3g}"
            expected = "" if finding.expected is None else f"{finding.expected:.3g}"
            answer = answers[claim.supports(finding)]
            table.add_row(f"    {finding.condition}", f"{value:.3g}", interval, expected, answer)
        console.print(table, soft_wrap=True)


def show_verdicts(judged: Mapping[str, tuple[Claim, Sequence[Finding], Verdict]]) -> None:
    """All verdicts on one page."""
    table = Table(title="verdicts")
    for column in ("claim", "verdict"):
        table.add_column(column)
    for name, (claim, _, verdict) in judged.items():
        table.add_row(name, claim.answer_to(verdict) or str(verdict))
    console.print(table)
