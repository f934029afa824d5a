"""A whole training run as one function, in lanes, measuring every layer on the way."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fadeout.config import Run
from fadeout.networks import lanes
from fadeout.networks.activations import get_activation, graded_one_of, steepest_slope
from fadeout.networks.initializers import FROM_DATA
from fadeout.networks.lanes import per_lane
from fadeout.networks.model import MLP, Signals
from fadeout.networks.optimizers import ELEMENTWISE, OPTIMIZERS, get_optimizer
from fadeout.networks.probes import get_probe
from fadeout.networks.tasks import Examples, get_loss, make_examples
from fadeout.training.measuring import Sight, measure
from fadeout.training.outcomes import Outcome, all_finite, judge, locate
from fadeout.training.updates import (
    Trained,
    kernel_updates,
    start,
    update_all,
    update_layers,
)


class Program(NamedTuple):
    """What decides a compiled program; hashable.

    Attributes:
      run: with its traced values erased, its initialiser and task too: they only fill parameters
        and examples, in a small program of their own, and do not split this one. Where the depth
        is a number, that of the run is the number of places in the stack of layers.
      examples, features: the shape of the task's inputs.
      activations: the functions, by name, among which a run's index chooses.
      functions: all others that it calls by name, so that another function of a name is another
        program.
    """

    run: Run
    examples: int
    features: int
    activations: tuple[tuple[str, Callable], ...]
    functions: tuple

    @property
    def records(self) -> int:
        """How many times a run is measured: at step 0, record_every, ..., steps."""
        return self.run.training.steps // self.run.training.record_every + 1

    @property
    def recorded(self) -> int:
        """How many numbers are recorded of one run."""
        return self.records * (len(self.run.probes) * (self.run.model.depth + 1) + 2)

    @property
    def lanes(self) -> int:
        """How many networks it trains at once, whatever their number."""
        model = self.run.model
        held = self.recorded + self.examples * self.features
        return lanes.lane_count(
            model.depth, model.width, self.examples, held, jax.default_backend()
        )


class Trace(NamedTuple):
    """What was recorded of a chunk of runs.

    Attributes:
      layers: probe name to [record, layer, run], the readout last; NaN there for what only units
        with an activation function have.
      loss, accuracy: [record, run].
      outcome: [run].
      model: the networks after the last step, the run as last axis.
    """

    layers: dict[str, jax.Array]
    loss: jax.Array
    accuracy: jax.Array
    outcome: Outcome
    model: MLP

    def cut(self, depth: int) -> "Trace":
        """Without the empty places above a network's depth."""
        rows = [*range(depth), -1]
        layers = {name: values[:, rows] for name, values in self.layers.items()}
        return self._replace(layers=layers, model=self.model.cut(depth))


def prepare_lanes(run: Run, values: dict) -> tuple[Examples, MLP]:
    """`prepare` for one run per lane; they share their depth."""
    own = {name: value for name, value in values.items() if name != "depth"}
    shared = {name: value for name, value in values.items() if name == "depth"}
    return per_lane(lambda own: prepare(run, own | shared))(own)


def prepare(run: Run, values: dict) -> tuple[Examples, MLP]:
    """Draws one run's examples and its network from its own seed."""
    dtype, count = jnp.dtype(run.training.dtype), values.get("depth", run.model.depth) - 1
    key = jax.random.key(values["seed"])
    examples = make_examples(
        jax.random.fold_in(key, 0),
        dtype,
        name=run.task.name,
        inputs=run.task.inputs,
        **dict(run.task.options) | values["task"],
    )
    model = MLP.create(
        jax.random.fold_in(key, 1),
        examples.inputs.shape[1],
        run.model.depth,
        run.model.width,
        dtype,
        count,
        name=run.init.name,
        **dict(run.init.options) | values["init"],
    )
    if run.init.name in FROM_DATA:
        own = dict(run.activation.options) | values["activation"]
        activation = get_activation(run.activation.name, **own)
        model = model.scaled(examples.inputs, activation, values["init"]["gain"], count)
    return examples, model


class Seen(NamedTuple):
    """What a step has seen, all with the run last.

    Attributes:
      delta: dL/d output; those of the hidden layers are among the signals.
    """

    loss: jax.Array
    accuracy: jax.Array
    signals: Signals
    delta: jax.Array
    gradients: MLP


class State(NamedTuple):
    """What is carried from step to step; at step -1, nothing has been seen."""

    step: jax.Array
    trained: Trained
    seen: Seen
    outcome: Outcome


def fit(program: Program, values: dict, examples: Examples, model: MLP) -> Trace:
    """Trains one network per lane, and measures them: a whole training run, as one function.

    A step updates with what was seen last, and then sees: so that it stands in the program once,
    and what is measured at records is measured between steps.

    Args:
      values: as `fit_values` gives them: of the activation and the optimiser, each [run]; and,
        shared by all lanes, the `index` of their activation and their `depth`.
      examples: inputs [example, feature, run], targets [example, run].
      model: parameters with the run as last axis.
    """
    run, every = program.run, program.run.training.record_every
    (x, targets), places, width = examples, run.model.depth, run.model.width
    dtype, runs = x.dtype, targets.shape[-1]
    count = values.get("depth", places) - 1  # of hidden layers but the first
    functions = [function for _, function in program.activations]
    activation = graded_one_of(
        functions, run.activation.surrogate, values["index"], values["activation"]
    )
    loss = get_loss(run.training.loss_function)
    probes = {name: get_probe(name) for name in run.probes}

    def optimizer(hyperparameters):
        chosen = run.optimizer
        return get_optimizer(
            chosen.name,
            schedule=chosen.schedule,
            warmup_steps=chosen.warmup_steps,
            steps=run.training.steps,
            **dict(chosen.options)
            | {k: v for k, v in hyperparameters.items() if k != "readout_factor"},
        )

    def begin(hyperparameters, model):
        return optimizer(hyperparameters).init(model)

    def change(hyperparameters, gradients, state, model):
        return optimizer(hyperparameters).update(gradients, state, model)

    elementwise = OPTIMIZERS[run.optimizer.name] in ELEMENTWISE
    update = functools.partial(update_layers if elementwise else update_all, change)

    def judged(output):
        losses = lanes.mean(loss.function(output[:, 0], targets))
        return jnp.sum(losses), losses

    def see(step, model: MLP, before: Seen, outcome: Outcome) -> tuple[Seen, Outcome]:
        output, signals = model.forward(x, activation, count, before.signals)
        delta, losses = jax.grad(judged, has_aux=True)(output)
        signals, gradients = model.backward(x, delta, count, signals, before.gradients)
        answer = output[:, 0]
        right = (answer > loss.threshold) == (targets > 0.5)
        accuracy = lanes.mean((right & jnp.isfinite(answer)).astype(dtype))
        outcome = judge(
            outcome, step, accuracy == 1, ~all_finite(losses, gradients),
            lambda: locate(step, model, x, signals, gradients, count),
        )  # fmt: skip
        return Seen(losses, accuracy, signals, delta, gradients), outcome

    def one_step(_, state: State) -> State:
        def updated(_, before: Trained) -> Trained:
            return update(values["optimizer"], state.seen.gradients, before, count)

        if isinstance(count, int):  # an accelerator waits for its host where a loop's length varies
            started = functools.partial(jnp.where, state.step >= 0)
            trained = jax.tree.map(started, updated(0, state.trained), state.trained)
        else:
            trained = lax.fori_loop(0, (state.step >= 0).astype(int), updated, state.trained)
        step = state.step + 1
        return State(step, trained, *see(step, trained.model, state.seen, state.outcome))

    @per_lane
    def look(hyperparameters, model, trained, x, signals, delta, gradients, steepest):
        layers = Sight(model, trained, gradients, signals, x, delta, steepest).layers(count)
        step = kernel_updates(change, hyperparameters, gradients, trained, elementwise)
        return measure(probes, layers, step)

    def record(state: State, number) -> tuple[State, tuple]:
        state = lax.fori_loop(0, jnp.where(number == 0, 1, every), one_step, state)
        seen = state.seen
        measured = look(
            values["optimizer"], model, state.trained, x, seen.signals, seen.delta, seen.gradients,
            steepest,
        )  # fmt: skip
        return state, (measured, seen.loss, seen.accuracy)

    steepest = steepest_slope(lambda z: activation(z)[1], dtype, (runs,))
    nothing = [jnp.zeros((places, x.shape[0], width, runs), dtype) for _ in Signals._fields]
    never = jnp.full(runs, -1)
    paths = any(probe.path for probe in probes.values())
    unseen = State(
        jnp.full((), -1),
        start(model, per_lane(begin)(values["optimizer"], model), paths),
        Seen(
            jnp.zeros(runs, dtype), jnp.zeros(runs, dtype), Signals(*nothing),
            jnp.zeros((x.shape[0], 1, runs), dtype), jax.tree.map(jnp.zeros_like, model),
        ),
        Outcome(never, never, never),
    )  # fmt: skip
    end, (layers, losses, accuracy) = lax.scan(record, unseen, jnp.arange(program.records))
    return Trace(layers, losses, accuracy, end.outcome, end.trained.model)
