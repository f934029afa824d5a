"""A network of a user's own, while it trains."""

import functools
import html
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fadeout.analysis.examine import dataset_of, name_of
from fadeout.analysis.layer_verdicts import NOT_JUDGED, one_look, suggest
from fadeout.networks.inspection import Look, gradients_of, jitted
from fadeout.registry import FadeoutError
from fadeout.sweeps.networks import store_network


def watch(
    loss: Callable,
    every: int = 10,
    has_aux: bool = False,
    log: Callable[[Mapping[str, float], int], Any] | None = None,
) -> "Watch":
    """`jax.value_and_grad(loss)`, jitted, that also looks at every layer now and then.

    Args:
      loss: of parameters and data, as `fadeout.examine` takes it: any tree of arrays, or a module
        of flax.nnx, whose other state is updated. It must be a pure function otherwise.
      every: a look every so many calls, the first among them. The others cost what they would
        without.
      has_aux: whether the loss gives a number and anything else.
      log: is called at each look with names and numbers, `layer/quantity`, and the step: as
        `wandb.log` and `trackio.log` are; of a TensorBoard writer, give a function.

    Returns:
      A `Watch`. It gives what `jax.value_and_grad(loss, has_aux=has_aux)` gives.

    Raises:
      FadeoutError: `every` is no whole number from 1 on, or what is given is no function.

    >>> import jax, jax.numpy as jnp
    >>> def loss(parameters, x):
    ...     return jnp.mean(jnp.tanh(x @ parameters["below"]) @ parameters["above"])
    >>> parameters = {"above": jnp.ones((3, 1)), "below": jnp.ones((2, 3))}
    >>> own = watch(loss, every=2)
    >>> for _ in range(3):
    ...     value, gradients = own(parameters, jnp.eye(2))
    ...     parameters = jax.tree.map(lambda p, g: p - 0.1 * g, parameters, gradients)
    >>> own.results.step.values.tolist(), own.results.layer.values.tolist()
    ([0, 2], ['below', 'above'])
    """
    if not callable(loss):
        raise FadeoutError(f"a loss must be a function of parameters and data, not {loss!r:.60}")
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise FadeoutError(f"every must be a whole number of calls from 1 on, not {every!r:.40}")
    if log is not None and not callable(log):
        raise FadeoutError(f"log must be a function of a dictionary and a step, not {log!r:.40}")
    return Watch(loss, every, has_aux, log)


class Watch:
    """A loss with its gradients, and what was seen of it, as `fadeout.watch` makes it.

    Attributes:
      step: how often it was called.
      results: what was seen, a dataset over `step` and `layer`, with the quantities of
        `fadeout.examine` and the `loss`.
    """

    def __init__(self, loss: Callable, every: int, has_aux: bool, log: Callable | None):
        functools.update_wrapper(self, loss)
        self._loss, self._every, self._has_aux, self._log = loss, every, has_aux, log
        self._plain, self._looking = gradients_of(loss, has_aux), jitted(loss, has_aux)
        self._looks: list[tuple[int, Any, Look]] = []
        self.step = 0

    def __call__(self, parameters: Any, *data: Any, **named: Any) -> tuple[Any, Any]:
        step, self.step = self.step, self.step + 1
        if step % self._every:
            return self._plain(parameters, *data, **named)
        try:
            value, gradients, look = self._looking(parameters, *data, **named)
        except FadeoutError as error:  # without what JAX adds to an error that passes it
            raise FadeoutError(str(error)) from error.__cause__
        if self._looks and self._looks[-1][2].layers != look.layers:
            raise FadeoutError(
                f"the network has other layers at step {step} than before: begin another "
                "fadeout.watch for it"
            )
        loss = value[0] if self._has_aux else value
        self._looks.append((step, loss, look))
        if self._log:
            self._log(_numbers(loss, look), step)
        return value, gradients

    @property
    def results(self) -> xr.Dataset:
        """
        Raises:
          FadeoutError: nothing was seen yet.
        """
        if not self._looks:
            raise FadeoutError("nothing was seen yet: call the watch as jax.value_and_grad(loss)")
        steps = [step for step, _, _ in self._looks]
        rows = [dataset_of(look, loss, name_of(self._loss)) for _, loss, look in self._looks]
        found = xr.concat(rows, "step", combine_attrs="override", data_vars="all")
        found["loss"] = "step", [row.attrs["loss"] for row in rows]
        found.attrs = dict(rows[-1].attrs)
        found["step"] = steps
        found.attrs["advice"] = _advice(found)
        return found.assign_coords(step=steps)

    def save(self, folder: str | os.PathLike) -> Path:
        """Writes `results` as `<folder>/network.nc`, for `fadeout.load`, `fadeout report` and
        `fadeout plot`; nothing is overwritten.

        Raises:
          FadeoutError: the folder holds results already.
        """
        return store_network(self.results, folder)

    def __str__(self) -> str:
        return summarize(self.results)

    def __repr__(self) -> str:
        name = name_of(self._loss)
        return f"<fadeout.watch of {name}: {len(self._looks)} looks in {self.step} calls>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self) if self._looks else repr(self))}</pre>"


def _numbers(loss: Any, look: Look) -> dict[str, float]:
    """All that is a number, by layer and quantity."""
    found = {"loss": float(loss)}
    for name, values in look.values.items():
        if name != "unexplained":
            for layer, value in zip(look.layers, np.asarray(values, float), strict=True):
                if not np.isnan(value):
                    found[f"{layer}/{name}"] = float(value)
    return found


def first_trouble(results: xr.Dataset) -> str:
    """Says when and where something was not finite for the first time; empty where all
    is, and of a single look. Layers of which nothing is known count not."""
    if "step" not in results.dims:
        return ""
    skipped = np.isin(results["verdict"].values, NOT_JUDGED)
    signal = np.isfinite(results["preactivation_std"].values) | skipped
    gradient = np.isfinite(results["delta_norm"].values) | skipped
    for step, forwards, backwards in zip(results["step"].values, signal, gradient, strict=True):
        layers = results["layer"].values
        if not forwards.all():
            return f"step {step}: {layers[np.argmin(forwards)]} is not finite, forwards"
        if not backwards.all():
            last = len(layers) - 1 - np.argmin(backwards[::-1])
            return f"step {step}: the gradient of {layers[last]} is not finite, backwards"
    return ""


def _advice(results: xr.Dataset) -> str:
    """Says what to do about the last look; of a network that began in health, what the
    training did to it."""
    words = results["verdict"].values
    if words.shape[0] > 1 and (words[0] == "healthy").all() and (words[-1] != "healthy").any():
        return "all layers were healthy at the start: look at the learning rate, or warm up"
    return suggest(results.isel(step=-1)).words


def since(results: xr.Dataset, layer: int) -> int | None:
    """The step since which a layer has had the verdict that it has now; None of a single look."""
    if "step" not in results.dims:
        return None
    words = results["verdict"].values[:, layer]
    other = np.flatnonzero(words != words[-1])
    return int(results["step"].values[0 if not other.size else other[-1] + 1])


def summarize(found: xr.Dataset) -> str:
    """A table of the last look: a row for each layer, and what is wrong since when."""
    own = one_look(found)
    rows = [("layer", "gradient", "delta", "signal", "dead", "verdict")]
    for number, layer in enumerate(own["layer"].values):
        row = own.isel(layer=number)
        verdict = str(row["verdict"].item()).replace("_", " ")
        began = since(found, number)
        if verdict != "healthy" and began is not None:
            verdict = f"{verdict} since step {began}"
        rows.append((
            str(layer), f"{float(row.gradient_norm):.2e}", f"{float(row.delta_norm):.2e}",
            f"{float(row.preactivation_std):.2e}", f"{float(row.dead_units):.0%}", verdict,
        ))  # fmt: skip
    widths = [max(len(row[n]) for row in rows) for n in range(5)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(row[n].rjust(widths[n]) for n in range(1, 5)), row[5]]
        )
        for row in rows
    ]
    notes = [first_trouble(found), *map(str, (own.attrs["notes"], own.attrs["advice"]))]
    return "\n".join([_heading(found, own), *lines, *filter(None, notes)])


def _heading(found: xr.Dataset, own: xr.Dataset) -> str:
    head = f"loss {own.attrs['loss']:.4g}"
    if "step" in found.dims:
        return f"{head} at step {found['step'].values[-1]}, {found.sizes['step']} looks"
    if "seed" in found.dims:
        return f"{head}, {found.sizes['seed']} networks"
    return head
