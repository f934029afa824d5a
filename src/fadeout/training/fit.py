"""A whole training run as one function, in lanes, measuring every layer on the way."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, UInt32

from fadeout.config import Run
from fadeout.networks import lanes
from fadeout.networks.activations import get_activation, graded_one_of, steepest_slope
from fadeout.networks.given import read_weights
from fadeout.networks.initializers import FROM_DATA, FROM_FILE
from fadeout.networks.lanes import per_lane
from fadeout.networks.losses import OUTPUTS, get_loss
from fadeout.networks.model import MLP, Signals
from fadeout.networks.optimizers import ELEMENTWISE, OPTIMIZERS, get_optimizer
from fadeout.networks.probes import get_probe
from fadeout.networks.remedies import Remedy
from fadeout.networks.tasks import Examples, classes_of, make_examples, shuffle
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
      examples, features: the shape of the task's inputs, without what is held out.
      outputs: of the readout.
      activations: the functions, by name, among which a run's index chooses.
      functions: all others that it calls by name, so that another function of a name is another
        program.
    """

    run: Run
    examples: int
    features: int
    outputs: int
    activations: tuple[tuple[str, Callable], ...]
    functions: tuple

    @property
    def records(self) -> int:
        """How many times a run is measured: at step 0, record_every, ..., steps."""
        return self.run.training.steps // self.run.training.record_every + 1

    @property
    def recorded(self) -> int:
        """How many numbers are recorded of one run."""
        of_records = self.records * (len(self.run.probes) * (self.run.model.depth + 1) + 4)
        return of_records + self.kept

    @property
    def kept(self) -> int:
        """How many numbers are kept of one run's last network."""
        model, kept = self.run.model, 0
        if "weights" in self.run.keep:
            widest = max(model.width, self.outputs)
            kept += (model.depth + 1) * widest * (max(self.features, model.width) + 4)
        if "outputs" in self.run.keep:
            kept += (self.examples + self.run.training.held_out) * (self.outputs + 1)
        return kept

    @property
    def lanes(self) -> int:
        """How many networks it trains at once, whatever their number."""
        model = self.run.model
        examples = self.examples + self.run.training.held_out
        numbers = self.recorded + examples * self.features
        return lanes.lane_count(
            model.depth, model.width, self.examples, numbers, jax.default_backend()
        )


class Trace(NamedTuple):
    """What was recorded of runs that were trained side by side.

    Attributes:
      layers: by the name of a probe; the readout is last, and NaN there what only units with an
        activation function have.
      validation: loss and accuracy of held-out examples, if there are any, by name.
      model: the networks after the last step, the run as last axis.
      answers: the last outputs, and the targets, of all examples as the task gives them, if they
        are kept.
    """

    layers: dict[str, Float[Array, "record layer run"]]
    loss: Float[Array, "record run"]
    accuracy: Float[Array, "record run"]
    validation: dict[str, Float[Array, "record run"]]
    outcome: Outcome
    model: MLP
    answers: tuple[()] | tuple[Float[Array, "example output run"], Float[Array, "example run"]] = ()

    def cut(self, depth: int) -> "Trace":
        """Without the empty places above a network's depth."""
        rows = [*range(depth), -1]
        layers = {name: values[:, rows] for name, values in self.layers.items()}
        return self._replace(layers=layers, model=self.model.cut(depth))


HELD = 2
"""What a run's key is folded with for the examples that are held out."""


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
        targets=run.task.targets,
        **dict(run.task.options) | values["task"],
    )
    if run.training.held_out:
        examples = examples.held(jax.random.fold_in(key, HELD), run.training.held_out)
    model = MLP.create(
        jax.random.fold_in(key, 1),
        examples.inputs.shape[1],
        run.model.depth,
        run.model.width,
        dtype,
        count,
        outputs_of(run),
        **trained_besides(run),
        init={"name": run.init.name} | dict(run.init.options) | values["init"],
    )
    if run.init.name in FROM_FILE:
        model = model.weighted(read_weights(run.init.npz), values["init"]["gain"])
    if run.init.name in FROM_DATA:
        own = dict(run.activation.options) | values["activation"]
        activation = get_activation(run.activation.name, **own)
        model = model.scaled(examples.inputs, activation, values["init"]["gain"], count)
    return examples, model if run.model.bias else model.unbiased()


def trained_besides(run: Run) -> dict[str, bool]:
    """What a network trains besides kernels and biases, as `MLP.create` takes it."""
    rezero = run.model.residual_scale == "zero" and bool(run.model.residual)
    return {"affine": run.model.affine, "rezero": rezero}


def remedy_of(run: Run, residual, depth) -> Remedy:
    """What a run's network has besides neurons.

    Args:
      residual: the factor of its branches, which may be traced; looked at only where there are any.
    """
    branch = None
    if run.model.residual:
        branch = residual / depth**0.5 if run.model.residual_scale == "sqrt_depth" else residual
    return Remedy(run.model.normalization, branch)


def outputs_of(run: Run) -> int:
    """How many outputs its network has: one, or of more than two classes one for each."""
    classes = classes_of(run.task.name, dict(run.task.options))
    return classes if classes > 2 else 1


class Seen(NamedTuple):
    """What a step has seen.

    Attributes:
      delta: dL/d output; those of the hidden layers are among the signals.
    """

    loss: Float[Array, "run"]
    accuracy: Float[Array, "run"]
    signals: Signals
    delta: Float[Array, "example output run"]
    gradients: MLP


class State(NamedTuple):
    """What is carried from step to step; at step -1, nothing has been seen.

    Attributes:
      part: what was seen last of some examples, where a step sees no more than some.
      order: of the examples in this epoch.
    """

    step: Int[Array, ""]
    trained: Trained
    seen: Seen
    outcome: Outcome
    part: Any = None
    order: Int[Array, "example run"] | None = None


def fit(program: Program, values: dict, examples: Examples, model: MLP) -> Trace:
    """Trains one network per lane, and measures them: a whole training run, as one function.

    A step updates with what was seen last, and then sees: so that it stands in the program once,
    and what is measured at records is measured between steps. Where a step sees some examples only,
    it sees and then updates, and all are seen at records.

    Args:
      values: as `fit_values` gives them: of the activation, the optimiser and the training, each
        [run], and the `seed`; and, shared by all lanes, the `index` of their activation and their
        `depth`.
      examples, model: with the run as last axis.
    """
    run, every = program.run, program.run.training.record_every
    x, targets, *held = examples
    places, width, size = run.model.depth, run.model.width, run.training.batch_size
    dtype, runs = x.dtype, targets.shape[-1]
    count = values.get("depth", places) - 1  # of hidden layers but the first
    functions = [function for _, function in program.activations]
    activation = graded_one_of(
        functions, run.activation.surrogate, values["index"], values["activation"]
    )
    loss, made_of = get_loss(run.training.loss_function), OUTPUTS[run.model.output]
    threshold = 0.0 if run.task.targets == "bipolar" else loss.threshold
    probes = {name: get_probe(name) for name in run.probes}

    def optimizer(hyperparameters):
        chosen = run.optimizer
        given = {k: v for k, v in hyperparameters.items() if k != "readout_factor"}
        return get_optimizer(
            chosen.name,
            given.pop("learning_rate"),
            chosen.schedule,
            chosen.warmup_steps,
            run.training.steps,
            given.pop("clip", None),
            dict(chosen.options) | given,
        )

    def begin(hyperparameters, model):
        return optimizer(hyperparameters).init(model)

    def change(hyperparameters, gradients, state, model):
        return optimizer(hyperparameters).update(gradients, state, model)

    remedy = remedy_of(run, values["model"]["residual"], jnp.asarray(count + 1, dtype))
    elementwise = OPTIMIZERS[run.optimizer.name] in ELEMENTWISE and run.optimizer.clip is None
    update = functools.partial(update_layers if elementwise else update_all, change)

    def judged(output, targets):
        losses = lanes.mean(loss.of(made_of(output), targets))
        return jnp.sum(losses), losses

    def correct(output, targets):
        return lanes.mean(loss.right(made_of(output), targets, threshold).astype(dtype))

    def see(
        examples, step, model: MLP, before: Seen, outcome: Outcome, all_of_them=True
    ) -> tuple[Seen, Outcome]:
        x, targets = examples
        output, signals = model.forward(x, activation, count, before.signals, remedy)
        delta, losses = jax.grad(judged, has_aux=True)(output, targets)
        signals, gradients = model.backward(x, delta, count, signals, before.gradients, remedy)
        if not run.model.bias:
            gradients = gradients.unbiased()
        accuracy = correct(output, targets)
        outcome = judge(
            outcome, step,
            accuracy == 1 if all_of_them else None,
            losses < values["training"]["until_loss"] if all_of_them else None,
            ~all_finite(losses, gradients),
            lambda: locate(step, model, x, signals, gradients, count, remedy),
        )  # fmt: skip
        return Seen(losses, accuracy, signals, delta, gradients), outcome

    see_all = functools.partial(see, (x, targets))

    def updated(before: Trained, seen: Seen) -> Trained:
        return update(values["optimizer"], seen.gradients, before, count)

    def one_step(_, state: State) -> State:
        if isinstance(count, int):  # an accelerator waits for its host where a loop's length varies
            started = functools.partial(jnp.where, state.step >= 0)
            trained = jax.tree.map(started, updated(state.trained, state.seen), state.trained)
        else:
            again = (state.step >= 0).astype(int)
            trained = lax.fori_loop(0, again, lambda _, t: updated(t, state.seen), state.trained)
        step = state.step + 1
        return State(step, trained, *see_all(step, trained.model, state.seen, state.outcome))

    def step_on_some(_, state: State) -> State:
        step, trained, _, outcome, before, order = state
        epoch, batch = jnp.divmod(step, x.shape[0] // size)
        anew = functools.partial(shuffled, values["seed"], epoch, x.shape[0])
        order = lax.cond(batch == 0, anew, lambda: order)
        rows = lax.dynamic_slice_in_dim(order, batch * size, size)
        some = (jnp.take_along_axis(x, rows[:, None], 0), jnp.take_along_axis(targets, rows, 0))
        part, outcome = see(some, step, trained.model, before, outcome, all_of_them=False)
        return State(step + 1, updated(trained, part), state.seen, outcome, part, order)

    def advance(state: State, number) -> State:
        if size is None:
            return lax.fori_loop(0, jnp.where(number == 0, 1, every), one_step, state)
        state = lax.fori_loop(0, jnp.where(number == 0, 0, every), step_on_some, state)
        seen, outcome = see_all(state.step, state.trained.model, state.seen, state.outcome)
        return state._replace(seen=seen, outcome=outcome)

    def validate(model: MLP) -> dict:
        if not run.training.held_out:
            return {}
        inputs: Any = held[0]
        none = signals_of(inputs.shape[0])
        output, _ = model.forward(inputs, activation, count, none, remedy)
        return {
            "validation_loss": judged(output, held[1])[1],
            "validation_accuracy": correct(output, held[1]),
        }

    def answers(model: MLP) -> tuple:
        if "outputs" not in run.keep:
            return ()

        def answer(inputs):  # of batch normalisation each part has its own statistics, as its loss
            none = signals_of(inputs.shape[0])
            return made_of(model.forward(inputs, activation, count, none, remedy)[0])

        output, wanted = answer(x), targets
        if run.training.held_out:
            output = jnp.concatenate([answer(held[0]), output])
            wanted = jnp.concatenate([held[1], targets])
            back = jnp.argsort(held_order(values["seed"], wanted.shape[0]), axis=0)
            output = jnp.take_along_axis(output, back[:, None], 0)
            wanted = jnp.take_along_axis(wanted, back, 0)
        return output, wanted

    def look(
        chosen: dict, each, change, hyperparameters, model, trained, seen: Seen, x, steepest, branch
    ) -> dict:
        own = remedy._replace(branch=branch)
        sight = Sight(model, trained, seen.gradients, seen.signals, x, seen.delta, steepest, own)
        step = kernel_updates(change, hyperparameters, seen.gradients, trained, elementwise)
        return measure(chosen, sight.layers(count), step, each)

    of_all = {name: probe for name, probe in probes.items() if probe.whole}
    of_one = {name: probe for name, probe in probes.items() if not probe.whole}
    change_lanes = change if elementwise else per_lane(change)

    def record(state: State, number) -> tuple[State, tuple]:
        state = advance(state, number)
        seen = state.seen
        shown = (values["optimizer"], model, state.trained, seen, x, steepest, remedy.branch)
        measured = look(of_one, per_lane, change_lanes, *shown) if of_one else {}
        if of_all:
            alone = functools.partial(look, of_all, lambda probe: probe, change)
            measured |= per_lane(alone)(*shown)
        measured = {name: measured[name] for name in probes}
        return state, (measured, seen.loss, seen.accuracy, validate(state.trained.model))

    steepest = steepest_slope(lambda z: activation(z)[1], dtype, (runs,))
    never, zeros = jnp.full(runs, -1), functools.partial(jnp.zeros, dtype=dtype)

    def signals_of(examples: int) -> Signals:
        kept = 3 + (remedy.normalization != "none")
        return Signals(*(zeros((places, examples, width, runs)) for _ in range(kept)))

    def nothing(examples: int) -> Seen:
        delta = zeros((examples, program.outputs, runs))
        gradients = jax.tree.map(jnp.zeros_like, model)
        return Seen(zeros(runs), zeros(runs), signals_of(examples), delta, gradients)

    paths = any(probe.path for probe in probes.values())
    trained = start(model, per_lane(begin)(values["optimizer"], model), paths)
    unseen = State(jnp.full((), -1), trained, nothing(x.shape[0]), Outcome(*[never] * 4))
    if size is not None:
        order = jnp.zeros((x.shape[0], runs), int)
        unseen = unseen._replace(step=jnp.zeros((), int), part=nothing(size), order=order)
    end, (layers, losses, accuracy, validation) = lax.scan(
        record, unseen, jnp.arange(program.records)
    )
    last = end.trained.model
    return Trace(layers, losses, accuracy, validation, end.outcome, last, answers(last))


def held_order(seeds: UInt32[Array, "run"], count: int) -> Int[Array, "{count} run"]:
    """The order in which `prepare` has so many examples, those that are held out first."""

    def own(seed):
        return shuffle(jax.random.fold_in(jax.random.key(seed), HELD), count)

    return jax.vmap(own, out_axes=-1)(seeds)


def shuffled(
    seeds: UInt32[Array, "run"], epoch: Int[Array, ""], count: int
) -> Int[Array, "{count} run"]:
    """The order of so many examples in an epoch of each run."""

    def own(seed):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 3), epoch)
        return jax.random.permutation(key, count)

    return jax.vmap(own, out_axes=-1)(seeds)
