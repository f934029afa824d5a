"""A whole training run as one function, in lanes, measuring every layer on the way."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, UInt32

from fadeout.config import Run
from fadeout.networks import lanes
from fadeout.networks.activations import (
    ByLayer,
    ValueAndSlope,
    bind_static,
    is_by_layer,
    switch_value_and_slope,
)
from fadeout.networks.curvature import Curvature
from fadeout.networks.lanes import per_lane
from fadeout.networks.layouts import Layout, layout_of
from fadeout.networks.losses import OUTPUTS, Loss, get_loss
from fadeout.networks.model import MLP, Signals
from fadeout.networks.optimizers import OPTIMIZERS, get_optimizer, is_elementwise
from fadeout.networks.parametrization import StepFactors, step_exponent, step_factors
from fadeout.networks.probes import Probe, get_probe
from fadeout.networks.remedies import Remedy, residual_factor
from fadeout.networks.stacks import LayerCount, mask_from, set_at
from fadeout.networks.tasks import Examples
from fadeout.training.initialization import SHUFFLED, holdout_order, run_key
from fadeout.training.measuring import ProbeInput, measure_layers
from fadeout.training.outcomes import (
    Outcome,
    all_finite,
    infinite_gradients,
    locate_nonfinite,
    update_outcome,
)
from fadeout.training.updates import (
    TrainState,
    initial_train_state,
    kernel_updates,
    update_all,
    update_layers,
)


@dataclasses.dataclass(frozen=True)
class ActivationBranch:
    """An activation among those that a program holds.

    Attributes:
      static: its options that decide a program.
      digest: of a user's function, what it computes: functions of one digest are one program.
    """

    name: str
    static: tuple[tuple[str, Any], ...]
    digest: str
    function: Callable = dataclasses.field(compare=False, repr=False)

    @property
    def bound(self) -> Callable:
        """The function with its static options."""
        return bind_static(self.function, self.static)


class ProgramKey(NamedTuple):
    """The static key of a compiled training program.

    Attributes:
      run: with its traced values erased, its initialiser and task too: they only fill parameters
        and examples, in a small program of their own, and do not split this one. Where the depth
        and the number of steps are traced, its own say for how many layers and records there is
        room.
      examples, features: the shape of the task's inputs, without what is held out.
      outputs: of the readout.
      activations: those among which a run's index chooses.
    """

    run: Run
    examples: int
    features: int
    outputs: int
    activations: tuple[ActivationBranch, ...]

    @property
    def by_layer(self) -> bool:
        """Returns whether every hidden layer has an activation of its own."""
        return is_by_layer(self.run.activation.name)

    @property
    def records(self) -> int:
        """The number of records for which there is room."""
        return self.run.training.records

    def recorded_numbers(self, records: int, depth: int) -> int:
        """Returns how many numbers are recorded in a run with so many records and hidden layers."""
        return records * (len(self.run.probes) * (depth + 1) + 4) + self._kept_numbers(depth)

    def _kept_numbers(self, depth: int) -> int:
        """Returns how many numbers of a run's last network are stored."""
        model, kept = self.run.model, 0
        if "weights" in self.run.keep:
            widest = max(model.width, self.outputs)
            kept += (depth + 1) * widest * (max(self.features, model.width) + 4)
        if "outputs" in self.run.keep:
            kept += (self.examples + self.run.training.held_out) * (self.outputs + 1)
        return kept

    @property
    def lanes(self) -> int:
        """How many networks the program trains at once, whatever the number of runs."""
        model = self.run.model
        examples = self.examples + self.run.training.held_out
        numbers = self.recorded_numbers(self.records, model.depth) + examples * self.features
        return lanes.lane_count(
            model.depth, model.width, self.examples, numbers, jax.default_backend(),
            self.run.training.batch_size, model.normalization != "none",
        )  # fmt: skip

    @property
    def layout(self) -> Layout:
        """The order of axes in which a step keeps its signals."""
        seen = self.run.training.batch_size or self.examples
        return layout_of(self.lanes, self.run.model.width, seen, jax.default_backend())


_VALIDATION = "validation_loss", "validation_accuracy"


class History(NamedTuple):
    """Everything recorded while a block of runs was trained.

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

    def trim(self, depth: int, records: int, lanes: slice) -> "History":
        """Selects lanes whose networks have one depth, and drops padded layers and records."""
        rows = [*range(depth), -1]
        own = jax.tree.map(lambda values: values[..., lanes], self)
        return own._replace(
            layers={name: values[:records, rows] for name, values in own.layers.items()},
            loss=own.loss[:records],
            accuracy=own.accuracy[:records],
            validation={name: values[:records] for name, values in own.validation.items()},
            model=own.model.trim(depth),
        )


def make_remedy(run: Run, residual, depth) -> Remedy:
    """Returns the residual branches and normalisation of a run's network.

    Args:
      residual: the factor of its branches, which may be traced; looked at only where there are any.
    """
    branch = None
    if run.model.residual:
        branch = residual_factor(residual, run.model.residual_scale, depth)
    return Remedy(run.model.normalization, branch)


class _Evaluation(NamedTuple):
    """The values that a training step computes from the examples.

    Attributes:
      delta: dL/d output; those of the hidden layers are among the signals.
    """

    loss: Float[Array, "run"]
    accuracy: Float[Array, "run"]
    signals: Signals
    delta: Float[Array, "example output run"]
    gradients: MLP


class _State(NamedTuple):
    """The carry of the training loop. At step -1 nothing has been evaluated.

    Attributes:
      part: the last evaluation of a minibatch; None where a step uses all examples.
      order: of the examples in this epoch.
    """

    step: Int[Array, ""]
    trained: TrainState
    evaluation: _Evaluation
    outcome: Outcome
    part: Any = None
    order: Int[Array, "example run"] | None = None


def fit(program: ProgramKey, values: dict, examples: Examples, model: MLP) -> History:
    """Trains one network per lane, and measures them: a whole training run, as one function.

    Args:
      values: as `fit_values` gives them: of the activation, the optimiser and the training, each
        [run], the `seed`, the `steepest` slope and, on a CPU, the `depth`; and, shared by all
        lanes, the `index` of their activation and, on a CPU, how many `records` there are and
        `every` how many steps.
      examples, model: with the run as last axis.
    """
    return _training_run(program, values, examples, model).run_training()


def fit_snapshots(
    program: ProgramKey, parts: Int[Array, "snapshot"], values: dict, examples: Examples, model: MLP
) -> MLP:
    """Trains one network per lane, and returns it as it is after each part of its training.

    Args:
      parts: how many steps each takes.
      values, examples, model: as `fit` takes them.

    Returns:
      Networks with the snapshot as first axis and the run as last.
    """
    return _training_run(program, values, examples, model).run_parts(parts)


def _training_run(
    program: ProgramKey, values: dict, examples: Examples, model: MLP
) -> "_TrainingRun":
    dtype, depth = examples.inputs.dtype, values.get("depth", program.run.model.depth)
    remedy = make_remedy(program.run, values["model"]["residual"], jnp.asarray(depth, dtype))
    if isinstance(depth, int):
        count = LayerCount(depth - 1)
    elif depth.size == 1:  # no lane has fewer layers than another, and nothing needs a mask
        count = LayerCount(depth[0] - 1)
    else:
        count = LayerCount(jnp.max(depth) - 1, depth - 1)
    return _TrainingRun(program, values, examples, model, count, remedy)


@dataclasses.dataclass(frozen=True, eq=False)
class _TrainingRun:
    """A training run, and what its steps share.

    A full-batch step first applies the optimiser to the gradients of the previous evaluation, then
    runs forward and backward. So the evaluation is compiled only once, and a record uses the state
    between two steps. A minibatch step runs forward and backward on its batch, then updates; at a
    record, all examples are evaluated.

    Attributes:
      values, examples, model: as `fit` takes them.
      count: how many hidden layers there are but the first.
    """

    program: ProgramKey
    values: dict
    examples: Examples
    model: MLP
    count: LayerCount
    remedy: Remedy

    @property
    def run(self) -> Run:
        """The static part of the config, which all lanes share."""
        return self.program.run

    @functools.cached_property
    def layout(self) -> Layout:
        return self.program.layout

    @functools.cached_property
    def activation(self) -> ValueAndSlope | ByLayer:
        functions = [choice.bound for choice in self.program.activations]
        surrogate = self.run.activation.surrogate

        def choose(index) -> ValueAndSlope:
            return switch_value_and_slope(functions, surrogate, index, self.values["activation"])

        index = self.values["index"]
        return ByLayer(choose, index) if self.program.by_layer else choose(index)

    @functools.cached_property
    def loss_function(self) -> Loss:
        return get_loss(self.run.training.loss_function)

    # --- the optimiser

    @property
    def elementwise(self) -> bool:
        """Whether the optimiser works element by element, and so layer by layer."""
        chosen = self.run.optimizer
        return is_elementwise(OPTIMIZERS[chosen.name]) and chosen.clip is None

    @functools.cached_property
    def step_factors(self) -> StepFactors | None:
        """Factors of the steps, where the parametrisation has some."""
        model = self.run.model
        if model.parametrization == "standard":
            return None
        exponent = step_exponent(OPTIMIZERS[self.run.optimizer.name])
        return step_factors(model.parametrization, model.width, model.base_width, exponent)

    def optimizer(self, hyperparameters: dict):
        chosen = self.run.optimizer
        given = {k: v for k, v in hyperparameters.items() if k != "readout_factor"}
        return get_optimizer(
            chosen.name,
            given.pop("learning_rate"),
            chosen.schedule,
            chosen.warmup_steps,
            self.run.training.steps,
            given.pop("clip", None),
            dict(chosen.options) | given,
        )

    def init_optimizer(self, hyperparameters: dict, model):
        return self.optimizer(hyperparameters).init(model)

    def update_optimizer(self, hyperparameters: dict, gradients, state, model):
        return self.optimizer(hyperparameters).update(gradients, state, model)

    # --- a step

    def output(self, model: MLP, inputs) -> Float[Array, "example output run"]:
        nothing = self.empty_signals(inputs.shape[0])
        return model.forward(
            inputs, self.activation, self.count, nothing, self.remedy, self.layout
        )[0]

    def losses(self, output, targets) -> Float[Array, "run"]:
        return lanes.mean_over(
            self.loss_function.of(OUTPUTS[self.run.model.output](output), targets)
        )

    def accuracy(self, output, targets) -> Float[Array, "run"]:
        threshold = 0.0 if self.run.task.targets == "bipolar" else self.loss_function.threshold
        right = self.loss_function.right(OUTPUTS[self.run.model.output](output), targets, threshold)
        return lanes.mean_over(right.astype(self.examples.inputs.dtype))

    def evaluate(
        self, x, targets, step, model: MLP, buffers: _Evaluation, outcome: Outcome, all_of_them=True
    ) -> tuple[_Evaluation, Outcome]:
        """Runs the forward and backward pass on some examples, and updates the outcome."""
        count, remedy, layout = self.count, self.remedy, self.layout

        def summed(output):
            losses = self.losses(output, targets)
            return jnp.sum(losses), losses

        output, signals = model.forward(x, self.activation, count, buffers.signals, remedy, layout)
        delta, losses = jax.grad(summed, has_aux=True)(output)
        signals, gradients = model.backward(
            x, delta, count, signals, buffers.gradients, remedy, layout
        )
        if not self.run.model.bias:
            gradients = gradients.without_biases()
        accuracy = self.accuracy(output, targets)
        outcome = update_outcome(
            outcome, step,
            accuracy == 1 if all_of_them else None,
            losses < self.values["training"]["until_loss"] if all_of_them else None,
            ~all_finite(losses, gradients),
            lambda: locate_nonfinite(step, model, x, signals, gradients, count, remedy, layout),
        )  # fmt: skip
        return _Evaluation(losses, accuracy, signals, delta, gradients), outcome

    def evaluate_all(
        self, step, model: MLP, buffers: _Evaluation, outcome: Outcome
    ) -> tuple[_Evaluation, Outcome]:
        return self.evaluate(*self.examples[:2], step, model, buffers, outcome)

    def apply_update(self, before: TrainState, evaluation: _Evaluation) -> TrainState:
        update = update_layers if self.elementwise else update_all
        return update(
            self.update_optimizer, self.values["optimizer"], evaluation.gradients, before,
            self.count, self.step_factors,
        )  # fmt: skip

    def step(self, _, state: _State) -> _State:
        if isinstance(self.count.most, int):  # on a GPU or TPU, other loops wait for the host
            started = functools.partial(jnp.where, state.step >= 0)
            updated = self.apply_update(state.trained, state.evaluation)
            trained = jax.tree.map(started, updated, state.trained)
        else:
            again = (state.step >= 0).astype(int)
            trained = lax.fori_loop(
                0,
                again,
                lambda _, before: self.apply_update(before, state.evaluation),
                state.trained,
            )
        step = state.step + 1
        return _State(
            step, trained, *self.evaluate_all(step, trained.model, state.evaluation, state.outcome)
        )

    def step_on_some(self, _, state: _State) -> _State:
        step, trained, _, outcome, before, order = state
        (x, targets), size = self.examples[:2], self.run.training.batch_size
        epoch, batch = jnp.divmod(step, x.shape[0] // size)
        anew = functools.partial(_shuffled, self.values["seed"], epoch, x.shape[0])
        order = lax.cond(batch == 0, anew, lambda: order)
        rows = lax.dynamic_slice_in_dim(order, batch * size, size)
        some = jnp.take_along_axis(x, rows[:, None], 0), jnp.take_along_axis(targets, rows, 0)
        part, outcome = self.evaluate(
            *some, step, trained.model, before, outcome, all_of_them=False
        )
        return _State(
            step + 1, self.apply_update(trained, part), state.evaluation, outcome, part, order
        )

    # --- records

    @functools.cached_property
    def probes(self) -> dict[str, Probe]:
        return {name: get_probe(name) for name in self.run.probes}

    def advance(self, state: _State, number) -> _State:
        """Trains up to the next record."""
        every = self.values.get("every", self.run.training.record_every)
        if self.run.training.batch_size is None:
            return lax.fori_loop(0, jnp.where(number == 0, 1, every), self.step, state)
        steps = jnp.where(number == 0, 0, every)
        state = lax.fori_loop(0, steps, self.step_on_some, state)
        evaluation, outcome = self.evaluate_all(
            state.step, state.trained.model, state.evaluation, state.outcome
        )
        return state._replace(evaluation=evaluation, outcome=outcome)

    def record(self, state: _State, number) -> tuple[_State, tuple]:
        state = self.advance(state, number)
        evaluation = state.evaluation
        validation = self.validation(state.trained.model)
        return state, (self.measure_probes(state), evaluation.loss, evaluation.accuracy, validation)

    def measure_probes(self, state: _State) -> dict[str, Float[Array, "layer run"]]:
        """Applies all probes.

        Probes of whole networks are mapped over lanes, one network at a time.
        """

        def apply_probes(probes, map_lanes, update, arrays) -> dict:
            hyperparameters, start, state, evaluation, x, steepest, branch, by_lane = arrays
            if not self.program.by_layer:
                room = self.model.hidden.kernel.shape[0] + 1
                steepest = jnp.broadcast_to(steepest, (room, *steepest.shape))
            remedy = self.remedy._replace(branch=branch)
            updates = kernel_updates(
                update, hyperparameters, evaluation.gradients, state, self.elementwise,
                self.step_factors,
            )  # fmt: skip
            layers = ProbeInput(
                start, state, evaluation.gradients, evaluation.signals, x, evaluation.delta,
                steepest, remedy, self.layout,
            ).layers(self.count._replace(by_lane=by_lane))  # fmt: skip
            return measure_layers(probes, layers, updates, map_lanes, self.layout)

        of_all = {name: probe for name, probe in self.probes.items() if probe.whole}
        of_network = {name: probe for name, probe in self.probes.items() if probe.curvature}
        of_one = {
            name: probe
            for name, probe in self.probes.items()
            if not probe.whole and not probe.curvature
        }
        arrays = (
            self.values["optimizer"], self.model, state.trained, state.evaluation,
            self.examples.inputs, self.values["steepest"], self.remedy.branch, self.count.by_lane,
        )  # fmt: skip
        update = self.update_optimizer if self.elementwise else per_lane(self.update_optimizer)
        found = apply_probes(of_one, per_lane, update, arrays) if of_one else {}
        if of_all:
            alone = functools.partial(
                apply_probes, of_all, lambda probe: probe, self.update_optimizer
            )
            found |= per_lane(alone)(arrays)
        evaluation = state.evaluation
        if of_network:
            places = state.trained.model.hidden.kernel.shape[0] + 2
            curvature = self.curvature(state.trained.model)
            for name, probe in of_network.items():
                own = probe.function(curvature)
                if self.run.activation.surrogate != "none":  # no gradient of any function
                    own = own * jnp.nan
                found[name] = jnp.broadcast_to(own, (places, *own.shape))
        return {
            name: infinite_gradients(found[name], evaluation.delta, evaluation.signals.slope)
            if probe.gradient
            else found[name]
            for name, probe in self.probes.items()
        }

    def curvature(self, model: MLP) -> Curvature:
        """Returns the Hessian of the loss over all examples, by its products: each is a forward and
        a backward pass, differentiated once more along a direction."""
        x, targets = self.examples[:2]

        def there(tree: MLP) -> MLP:
            hidden = mask_from(tree.hidden, self.count.each)
            found = MLP(tree.first, hidden, tree.readout)
            return found if self.run.model.bias else found.without_biases()

        def gradients(model: MLP) -> MLP:
            nothing = self.empty_signals(x.shape[0])
            remedy, layout, count = self.remedy, self.layout, self.count
            output, signals = model.forward(x, self.activation, count, nothing, remedy, layout)
            delta = jax.grad(lambda output: jnp.sum(self.losses(output, targets)))(output)
            zeros = jax.tree.map(jnp.zeros_like, model)
            return there(model.backward(x, delta, count, signals, zeros, remedy, layout)[1])

        def product(direction: MLP) -> MLP:
            return jax.jvp(gradients, (model,), (direction,))[1]

        leaves, tree = jax.tree.flatten(model)
        keys = jax.random.split(jax.random.key(0), len(leaves))
        drawn = [
            jax.random.normal(key, leaf.shape[:-1], leaf.dtype)[..., None] * jnp.ones_like(leaf)
            for key, leaf in zip(keys, leaves, strict=True)
        ]
        return Curvature(product, there(tree.unflatten(drawn)))

    def validation(self, model: MLP) -> dict[str, Float[Array, "run"]]:
        """Returns loss and accuracy on held-out examples, if there are any."""
        if not self.run.training.held_out:
            return {}
        held: Any = self.examples[2:]
        output = self.output(model, held[0])
        found = self.losses(output, held[1]), self.accuracy(output, held[1])
        return dict(zip(_VALIDATION, found, strict=True))

    # --- the beginning and the end

    def zeros_per_run(self, *shape: int) -> Float[Array, "..."]:
        """Returns zeros of a shape, with the run as last axis."""
        return jnp.zeros((*shape, self.examples.targets.shape[-1]), self.examples.inputs.dtype)

    def empty_signals(self, examples: int) -> Signals:
        """Returns zeros in the shapes of the signals of so many examples."""
        model, kinds = self.run.model, 3 + (self.remedy.normalization != "none")
        one = self.zeros_per_run(model.depth, examples, model.width)
        return Signals(*(self.layout.arrange(one, stacked=True) for _ in range(kinds)))

    def initial_state(self) -> _State:
        def nothing(examples: int) -> _Evaluation:
            delta = self.zeros_per_run(examples, self.program.outputs)
            gradients = jax.tree.map(jnp.zeros_like, self.model)
            return _Evaluation(
                self.zeros_per_run(),
                self.zeros_per_run(),
                self.empty_signals(examples),
                delta,
                gradients,
            )

        targets, size = self.examples.targets, self.run.training.batch_size
        paths = any(probe.path for probe in self.probes.values())
        trained = initial_train_state(
            self.model, per_lane(self.init_optimizer)(self.values["optimizer"], self.model), paths
        )
        never = jnp.full(targets.shape[-1], -1)
        outcome = Outcome(*[never] * len(Outcome._fields))
        state = _State(jnp.full((), -1), trained, nothing(targets.shape[0]), outcome)
        if size is None:
            return state
        order = jnp.zeros(targets.shape, int)
        return state._replace(step=jnp.zeros((), int), part=nothing(size), order=order)

    def empty_records(self) -> tuple:
        """Returns zeros in the shapes of all records."""
        number = self.program.records
        layers = {
            name: self.zeros_per_run(number, self.run.model.depth + 1) for name in self.probes
        }
        names = _VALIDATION if self.run.training.held_out else ()
        validation = {name: self.zeros_per_run(number) for name in names}
        return layers, self.zeros_per_run(number), self.zeros_per_run(number), validation

    def run_training(self) -> History:
        """Runs all steps and returns the recorded history."""

        def record(number, both):
            state, kept = both
            state, new = self.record(state, number)
            return state, set_at(kept, number, new)

        records = self.values.get("records", self.program.records)
        end, kept = lax.fori_loop(0, records, record, (self.initial_state(), self.empty_records()))
        layers, loss, accuracy, validation = kept
        model = end.trained.model
        return History(layers, loss, accuracy, validation, end.outcome, model, self.answers(model))

    def run_parts(self, parts: Int[Array, "snapshot"]) -> MLP:
        """Runs so many steps, and so many more, and keeps the network after each part."""
        whole = self.run.training.batch_size is None
        step = self.step if whole else self.step_on_some

        def advance(state, count):
            state = lax.fori_loop(0, count, step, state)
            return state, state.trained.model

        first = self.initial_state()
        if whole:  # at step -1 nothing has been evaluated
            first = self.step(0, first)
        return lax.scan(advance, first, parts)[1]

    def answers(self, model: MLP) -> tuple:
        """Returns outputs and targets of all examples in the task's order, if they are kept."""
        if "outputs" not in self.run.keep:
            return ()

        def answer(inputs):  # of batch normalisation each part has its own statistics, as its loss
            return OUTPUTS[self.run.model.output](self.output(model, inputs))

        x, targets, *held = self.examples
        output = answer(x)
        if self.run.training.held_out:
            output = jnp.concatenate([answer(held[0]), output])
            targets = jnp.concatenate([held[1], targets])
            back = jnp.argsort(holdout_order(self.values["seed"], targets.shape[0]), axis=0)
            output = jnp.take_along_axis(output, back[:, None], 0)
            targets = jnp.take_along_axis(targets, back, 0)
        return output, targets


def _shuffled(
    seeds: UInt32[Array, "run"], epoch: Int[Array, ""], count: int
) -> Int[Array, "{count} run"]:
    """The order of so many examples in an epoch of each run."""

    def own(seed):
        key = jax.random.fold_in(run_key(seed, SHUFFLED), epoch)
        return jax.random.permutation(key, count)

    return jax.vmap(own, out_axes=-1)(seeds)
