"""A whole training run as one function, in lanes, measuring every layer on the way."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fadeout.config import Run
from fadeout.networks import lanes
from fadeout.networks.activations import differentiate, get_activation, one_of, steepest_slope
from fadeout.networks.initializers import FROM_DATA
from fadeout.networks.lanes import per_lane
from fadeout.networks.model import MLP, Signals, parameter_gradients
from fadeout.networks.norms import norm
from fadeout.networks.optimizers import apply_updates, get_optimizer
from fadeout.networks.probes import Layer, Layers, Path, Probe, get_probe
from fadeout.networks.tasks import Examples, get_loss, make_examples
from fadeout.schema import options
from fadeout.training.outcomes import Outcome, all_finite, judge, locate


class Program(NamedTuple):
    """What decides a compiled program; hashable.

    Attributes:
      run: with its traced values erased, its initialiser and task too: they only fill parameters
        and examples, in a small program of their own, and do not split this one.
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
      layers: probe name to [record, layer, run]; NaN at the readout for what only units with an
        activation function have.
      loss, accuracy: [record, run].
      outcome: [run].
      model: the networks after the last step, the run as last axis.
    """

    layers: dict[str, jax.Array]
    loss: jax.Array
    accuracy: jax.Array
    outcome: Outcome
    model: MLP


def prepare(run: Run, values: dict) -> tuple[Examples, MLP]:
    """Draws one run's examples and its network from its own seed."""
    dtype = jnp.dtype(run.training.dtype)
    key = jax.random.key(values["seed"])
    sizes = {k: v for k, v in options(run.task).items() if v is not None}
    examples = make_examples(
        jax.random.fold_in(key, 0),
        dtype,
        name=run.task.name,
        inputs=run.task.inputs,
        **sizes | values["task"],
    )
    model = MLP.create(
        jax.random.fold_in(key, 1),
        examples.inputs.shape[1],
        run.model.depth,
        run.model.width,
        dtype,
        name=run.init.name,
        **values["init"],
    )
    if run.init.name in FROM_DATA:
        activation = get_activation(run.activation.name, **values["activation"])
        model = model.scaled(examples.inputs, activation, values["init"]["gain"])
    return examples, model


class State(NamedTuple):
    """What is carried from step to step; the `path` has three trees like the network's kernels."""

    step: jax.Array
    model: MLP
    optimizer: Any
    outcome: Outcome
    path: Path | None


class Seen(NamedTuple):
    """What one step saw, all with the run last.

    Attributes:
      z, h: preactivations and activations.
      below: what each layer weighs.
      delta: dL/dz.
    """

    loss: jax.Array
    accuracy: jax.Array
    z: Signals
    h: Signals
    below: Signals
    delta: Signals
    gradients: MLP


def fit(program: Program, values: dict, examples: Examples, model: MLP) -> Trace:
    """Trains one network per lane, and measures them: a whole training run, as one function.

    Args:
      values: of the activation and the optimiser, as `fit_values` gives them, each [run]; and the
        one `index` of their activation.
      examples: inputs [example, feature, run], targets [example, run].
      model: parameters with the run as last axis.
    """
    run, every = program.run, program.run.training.record_every

    def activation_of(parameters):
        functions = [function for _, function in program.activations]
        return one_of(functions, run.activation.surrogate, values["index"], parameters)

    activation = activation_of(values["activation"])
    loss = get_loss(run.training.loss_function)
    dtype = examples.inputs.dtype

    def optimizer(hyperparameters):
        chosen = run.optimizer
        return get_optimizer(
            chosen.name,
            schedule=chosen.schedule,
            warmup_steps=chosen.warmup_steps,
            steps=run.training.steps,
            **{k: v for k, v in hyperparameters.items() if k != "readout_factor"},
        )

    def objective(taps, model):
        z, h = model(examples.inputs, activation, taps)
        losses = lanes.mean(loss.function(z.readout[:, 0], examples.targets))
        return jnp.sum(losses), (losses, z, h)

    def see(model) -> Seen:
        taps = jax.tree.map(jnp.zeros_like, shape_of_taps)
        delta, (losses, z, h) = jax.grad(objective, has_aux=True)(taps, model)
        if run.model.depth <= 2:  # deeper, the loop over layers keeps it
            delta = lanes.kept(delta, values["index"] >= 0)
        answer = z.readout[:, 0]
        right = (answer > loss.threshold) == (examples.targets > 0.5)
        accuracy = lanes.mean((right & jnp.isfinite(answer)).astype(dtype))
        below = h.below(examples.inputs)
        return Seen(losses, accuracy, z, h, below, delta, parameter_gradients(below, delta))

    @per_lane
    def update(hyperparameters, gradients, state, model):
        updates, state = optimizer(hyperparameters).update(gradients, state, model)
        factor = hyperparameters["readout_factor"]
        readout = jax.tree.map(lambda step: factor * step, updates.readout)
        return MLP(updates.first, updates.hidden, readout), state

    @per_lane
    def measure(*signals):
        layers = split_layers(*signals)
        return {name: over_layers(get_probe(name), layers) for name in run.probes}

    def advance(state: State, seen: Seen, suspect) -> tuple[State, MLP]:
        outcome = judge(
            state.outcome, state.step, seen.accuracy == 1, suspect,
            lambda: locate(state.step, state.model, seen.z, seen.gradients),
        )  # fmt: skip
        updates, optimizer_state = update(
            values["optimizer"], seen.gradients, state.optimizer, state.model
        )
        model = apply_updates(state.model, updates)
        path = state.path and lengthen(state.path, kernels(updates))
        return State(state.step + 1, model, optimizer_state, outcome, path), updates

    def plain_step(_, state: State) -> State:
        seen = see(state.model)
        return advance(state, seen, ~jnp.isfinite(seen.loss))[0]

    def recorded_step(state: State, last) -> tuple[State, tuple]:
        seen = see(state.model)
        new, updates = advance(state, seen, ~all_finite(seen.loss, seen.gradients))
        slopes = differentiate(activation, seen.z.stacked())
        measured = measure(
            state.model, seen.gradients, updates, seen.delta, seen.below, seen.h, slopes, steepest,
            state.path,
        )  # fmt: skip
        stay = state._replace(outcome=new.outcome)
        state = jax.tree.map(lambda a, b: jnp.where(last, a, b), stay, new)
        if every > 1:
            state = lax.fori_loop(0, jnp.where(last, 0, every - 1), plain_step, state)
        return state, (measured, seen.loss, seen.accuracy)

    shape_of_taps = jax.eval_shape(lambda m: m(examples.inputs, activation)[0], model)
    steepest = per_lane(lambda parameters, _: steepest_slope(activation_of(parameters), dtype))(
        values["activation"], examples.targets
    )
    never = jnp.full(examples.targets.shape[-1:], -1)
    start = State(
        jnp.zeros((), int),
        model,
        per_lane(lambda hyperparameters, model: optimizer(hyperparameters).init(model))(
            values["optimizer"], model
        ),
        Outcome(never, never, never),
        set_out(model) if any(get_probe(name).path for name in run.probes) else None,
    )
    last = jnp.arange(program.records) == program.records - 1
    end, (layers, losses, accuracy) = lax.scan(recorded_step, start, last)
    return Trace(layers, losses, accuracy, end.outcome, end.model)


def split_layers(
    model, gradients, updates, delta, below, activation, slope, steepest, path
) -> Layers:
    """One network's layers: the first, the other hidden ones stacked, and the readout."""

    def weights(name: str) -> dict[str, Any]:
        parts = [getattr(tree, name) for tree in (model, gradients, updates)]
        kernel, kernel_gradient, kernel_update = (part.kernel[...] for part in parts)
        return {
            "kernel": kernel,
            "kernel_gradient": kernel_gradient,
            "kernel_update": kernel_update,
            "bias_gradient": parts[1].bias[...],
            "delta": getattr(delta, name),
            "below": getattr(below, name),
            "path": path and Path(*(tree[name] for tree in path)),
        }

    def units(name: str, slope, steepest) -> dict[str, Any]:
        return {
            "activation": getattr(activation, name), "slope": slope, "steepest_slope": steepest
        }  # fmt: skip

    others = jnp.broadcast_to(steepest, activation.hidden.shape[0])
    return Layers(
        Layer(**weights("first"), **units("first", slope[0], steepest)),
        Layer(**weights("hidden"), **units("hidden", slope[1:], others)),
        Layer(**weights("readout")),
    )


def over_layers(probe: Probe, layers: Layers) -> jax.Array:
    """One probe in every weight layer: [depth + 1]; NaN at a readout that lacks it."""
    nothing = jnp.full((0 if probe.readout else 1,), jnp.nan)
    if probe.whole:
        return jnp.concatenate([probe.function(layers), nothing])
    rows = [probe.function(layers.first)[None]]
    if layers.hidden.kernel.shape[0]:
        rows.append(jax.vmap(probe.function)(layers.hidden))
    rows.append(probe.function(layers.readout)[None] if probe.readout else nothing)
    return jnp.concatenate(rows)


# --- the kernels' path


def kernels(model: MLP) -> dict[str, jax.Array]:
    return {name: getattr(model, name).kernel[...] for name in Layers._fields}


def set_out(model: MLP) -> Path:
    start = kernels(model)
    still = jax.tree.map(jnp.zeros_like, start)
    return Path(start, still, lengths(still))


def lengthen(path: Path, update: dict[str, jax.Array]) -> Path:
    return Path(path.start, update, jax.tree.map(jnp.add, path.length, lengths(update)))


@per_lane
def lengths(update: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The norm of every layer's kernel."""
    return {name: jax.vmap(norm)(x) if x.ndim == 3 else norm(x) for name, x in update.items()}
