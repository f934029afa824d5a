"""The config of one run: dataclasses with types, defaults and ranges.

A float (and the seed) is *traced*: a new value never compiles a program. A string, integer or
boolean is *static*: it decides a shape or a program. A field's declared type says which it is,
not how somebody typed its value: 1 and 1.0 are the same learning rate. What only some activations,
initialisers, tasks or optimisers take, their signatures declare. Nothing heavy is imported here, so
that Hydra's help and tab completion stay quick.
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Self

from fadeout.registry import FadeoutError, format_value, lookup
from fadeout.schema import (
    Choice,
    Section,
    bounded_field,
    default_values,
    kinds,
    sections_of,
    static_section,
    to_json,
)


@dataclass(frozen=True, init=False)
class Activation(Choice):
    """The activation function of all hidden layers; the readout has none.

    Attributes:
      name: a name of `fadeout list activations`, or a function registered by `fadeout.activation`.
      surrogate: the function whose slope the backward pass uses instead (straight-through
        estimation, Bengio 2013): none, identity, clipped or sigmoid.

    The parameters of an activation, such as leaky_relu's `slope`, are keys as well.

    >>> Activation("leaky_relu", slope=0.2).slope
    0.2
    """

    name: str = "tanh"
    surrogate: str = "none"


@dataclass(frozen=True, init=False)
class Init(Choice):
    """How kernels and biases are drawn.

    Attributes:
      name: a name of `fadeout list initializers`, or a function registered by
        `fadeout.initializer`.
      gain: the factor of every kernel. None, written `auto`, is 1 / sqrt(E phi(Z)^2), Z standard
        normal. With weights of variance 1 / fan-in it keeps preactivations at variance 1 (He 2015,
        for any activation).
      bias_variance: the variance of the biases, which are normally distributed; 0 or more.

    >>> Init("mean_field", weight_variance=2.0).weight_variance
    2.0
    """

    name: str = "glorot_normal"
    gain: float | None = 1.0
    bias_variance: float = bounded_field(0.0, minimum=0)

    def __post_init__(self):
        if isinstance(self.gain, str) and self.gain == "auto":
            object.__setattr__(self, "gain", None)
        super().__post_init__()


@dataclass(frozen=True, init=False)
class Task(Choice):
    """The data and the targets. The default is XOR.

    Attributes:
      name: a name of `fadeout list tasks`, or a function registered by `fadeout.task`.
      inputs: how false and true are written on the inputs of Boolean tasks: binary {0, 1}, bipolar
        {-1, 1} or centred {-1/2, 1/2}.
      targets: binary {0, 1} or bipolar {-1, 1}.

    >>> Task("parity", bits=6).bits
    6
    """

    name: str = "xor"
    inputs: str = bounded_field("binary", choices=("binary", "bipolar", "centred"))
    targets: str = bounded_field("binary", choices=("binary", "bipolar"))


PARAMETRIZATIONS = ("standard", "ntk", "mup")
RESIDUAL_SCALES = ("constant", "sqrt_depth", "zero")
MOST_DEPTH = 10_000
MOST_WIDTH = 16_384
MOST_STEPS = 100_000_000


@dataclass(frozen=True)
class Model(Section):
    """A perceptron: hidden layers of equal width, and a readout.

    Attributes:
      depth: hidden layers, 1 to 10,000.
      width: units in each, 1 to 16,384.
      bias: whether there are biases; if not, every bias stays 0.
      output: linear, the weighted sum itself; or its sigmoid or tanh.
      residual: the factor a in z = z_below + a (W h + b), from the second hidden layer on (He
        2016); 0 means no skip connections.
      residual_scale: constant; sqrt_depth, divided by the root of the depth (Hanin & Rolnick 2018);
        or zero, times a trained factor that starts at 0 (Bachlechner 2020).
      normalization: of preactivations before the activation: none, layer (Ba 2016), rms (Zhang &
        Sennrich 2019) or batch (Ioffe & Szegedy 2015).
      affine: whether the normalisation has a trained gain and shift.
      parametrization: how initial weights and steps follow from the width: standard, not at all;
        ntk (Jacot 2018) or mup (Yang et al. 2022), in the rules for SGD or for Adam, from
        initialisers over the fan-in.
      base_width: the width at which all parametrisations are the same.

    `residual_scale` without branches and `affine` without normalisation have no effect. A sweep in
    which such a key has no effect in any run is refused (`run_index`).

    Raises:
      FadeoutError: a value out of range.

    >>> Model(depth=50, width=64, residual=1.0).residual_scale
    'constant'
    """

    depth: int = bounded_field(2, minimum=1, maximum=MOST_DEPTH)
    width: int = bounded_field(8, minimum=1, maximum=MOST_WIDTH)
    bias: bool = True
    output: str = bounded_field("linear", choices=("linear", "sigmoid", "tanh"))
    residual: float = 0.0
    residual_scale: str = bounded_field("constant", choices=RESIDUAL_SCALES)
    normalization: str = bounded_field("none", choices=("none", "layer", "rms", "batch"))
    affine: bool = False
    parametrization: str = bounded_field("standard", choices=PARAMETRIZATIONS)
    base_width: int = bounded_field(8, minimum=1, maximum=MOST_WIDTH)

    def __post_init__(self):
        super().__post_init__()
        least = {"layer": 3, "rms": 2}.get(self.normalization, 1)
        if self.width < least:
            units = "one unit" if self.width == 1 else f"{self.width} units"
            raise FadeoutError(
                f"model.normalization={self.normalization} of {units} leaves at most signs: "
                f"set model.width={least} or more"
            )

    def unused_keys(self) -> dict[str, str]:
        """The keys that say nothing here, and what each of them needs."""
        found = {}
        if self.residual_scale != "constant" and not self.residual:
            found["residual_scale"] = (
                f"model.residual_scale={self.residual_scale} needs residual branches: set "
                "model.residual=1"
            )
        if self.affine and self.normalization == "none":
            found["affine"] = "model.affine=true needs model.normalization=layer, rms or batch"
        if self.base_width != 8 and self.parametrization == "standard":
            found["base_width"] = (
                f"model.base_width={self.base_width} needs model.parametrization=ntk or mup"
            )
        return found

    def without_unused(self) -> "Model":
        """Returns the section without keys that have no effect, so that they make no other run."""
        idle = {key: default_values(Model)[key] for key in self.unused_keys()}
        return dataclasses.replace(self, **idle) if idle else self

    def placeholder_floats(self) -> dict[str, float]:
        return {"residual": float(self.residual != 0)}  # with branches it is another program


@dataclass(frozen=True, init=False)
class Optimizer(Choice):
    """How a step follows from the gradient; hyperparameters have optax's names.

    Attributes:
      name: a name of `fadeout list optimizers`, or a function registered by `fadeout.optimizer`.
      learning_rate: 0 or more.
      readout_factor: the factor of the readout's steps.
      schedule: of the learning rate: constant, cosine (to 0 at the last step) or warmup (linear
        from 0 over `warmup_steps`, then cosine).
      warmup_steps: the steps of the rise, for `schedule=warmup`.
      clip: the largest norm of the gradient of all parameters together (Pascanu 2013); None does
        not clip.

    Raises:
      FadeoutError: a value is out of range, or `warmup_steps` is set without `schedule=warmup`.

    >>> Optimizer("momentum", learning_rate=0.1, momentum=0.95).momentum
    0.95
    """

    name: str = "adam"
    learning_rate: float = bounded_field(0.01, minimum=0)
    readout_factor: float = bounded_field(1.0, minimum=0)
    schedule: str = bounded_field("constant", choices=("constant", "cosine", "warmup"))
    warmup_steps: int = bounded_field(0, minimum=0)
    clip: float | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.clip is not None and not self.clip > 0:
            raise FadeoutError(
                f"optimizer.clip must be above 0, not {self.clip:g}; null turns clipping off"
            )
        if self.warmup_steps and self.schedule != "warmup":
            raise FadeoutError(
                f"optimizer.warmup_steps={self.warmup_steps} needs optimizer.schedule=warmup, "
                f"not {self.schedule}"
            )

    def placeholder_floats(self) -> dict[str, float]:
        return super().placeholder_floats() | ({} if self.clip is None else {"clip": 1.0})


@dataclass(frozen=True)
class Training(Section):
    """How long a run trains, and when it is measured.

    Attributes:
      steps: the optimiser's steps; with 0, networks are only drawn and measured.
      record_every: quantities are recorded at step 0, record_every, ..., steps, over all examples;
        `steps` is a multiple of it.
      loss_function: cross_entropy or squared_error, the mean over examples.
      dtype: float32 or float64.
      batch_size: examples per step; None means all. They are shuffled every epoch, and an epoch
        uses each at most once.
      held_out: how many examples, drawn by the seed, are never trained on. Their loss and accuracy
        are recorded as `validation_loss` and `validation_accuracy`.
      until_loss: a loss; the step since which the loss is below it is recorded as `reached_step`.

    Raises:
      FadeoutError: a value is out of range, or `steps` is not a multiple of `record_every`.

    >>> Training(steps=100).record_every
    10
    """

    steps: int = bounded_field(1000, minimum=0, maximum=MOST_STEPS)
    record_every: int = bounded_field(10, minimum=1)
    loss_function: str = bounded_field("cross_entropy", choices=("cross_entropy", "squared_error"))
    dtype: str = bounded_field("float32", choices=("float32", "float64"))
    batch_size: int | None = bounded_field(None, minimum=1)
    held_out: int = bounded_field(0, minimum=0)
    until_loss: float = bounded_field(0.0, minimum=0)

    def __post_init__(self):
        super().__post_init__()
        if self.steps % self.record_every:
            nearest = self.steps - self.steps % self.record_every
            raise FadeoutError(
                f"training.steps={self.steps} is not a multiple of training.record_every="
                f"{self.record_every}: set training.steps={nearest or self.record_every}, "
                "or another record_every"
            )

    @property
    def records(self) -> int:
        """How many times a run is measured: at step 0, record_every, ..., steps."""
        return self.steps // self.record_every + 1


_KEEP_CHOICES = ("weights", "outputs")
"""What `keep` may name."""

DEFAULT_PROBES = (
    "gradient_norm",
    "bias_gradient_norm",
    "delta_norm",
    "activation_mean",
    "activation_std",
    "saturation",
    "dead_units",
    "weight_norm",
    "update_ratio",
    "one_sided",
)


@dataclass(frozen=True, init=False)
class Run(Section):
    """Everything that determines the numbers of one run, and nothing else.

    A value may be given by its label as well: `Run("relu", depth=8, learning_rate=0.1)` is
    `Run(Activation("relu"), model=Model(depth=8), optimizer=Optimizer(learning_rate=0.1))`.

    Attributes:
      activation, init, task, model, optimizer, training: its sections.
      probes: the names of what is recorded in every layer; see `fadeout list probes`.
      seed: of all random draws, 0 to 2^32 - 1. Runs of one seed that differ only in what is not
        drawn, such as the activation, share their draws.
      keep: what is stored of the final network: `weights`, or `outputs` for every example, or both.
      sources: one text for each of the user's functions and files that the run uses: its kind, its
        name and a hash. `resolve` writes them.

    Raises:
      FadeoutError: a value is of a wrong type or out of range, or a label is unknown.

    >>> Run("relu", depth=8, learning_rate=0.1).model
    Model(depth=8, width=8, bias=True, output='linear', residual=0.0, residual_scale='constant', \
normalization='none', affine=False, parametrization='standard', base_width=8)
    """

    activation: Activation = field(default_factory=Activation)
    init: Init = field(default_factory=Init)
    task: Task = field(default_factory=Task)
    model: Model = field(default_factory=Model)
    optimizer: Optimizer = field(default_factory=Optimizer)
    training: Training = field(default_factory=Training)
    probes: tuple[str, ...] = DEFAULT_PROBES
    seed: int = bounded_field(0, minimum=0, maximum=2**32 - 1)
    keep: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def __init__(
        self,
        activation: Activation | str | Callable = Activation(),
        init: Init | str | Callable = Init(),
        task: Task | str | Callable = Task(),
        model: Model = Model(),
        optimizer: Optimizer | str | Callable = Optimizer(),
        training: Training = Training(),
        probes: Sequence[str] = DEFAULT_PROBES,
        seed: int = 0,
        keep: Sequence[str] = (),
        sources: Sequence[str] = (),
        **labels: Any,
    ):
        given = (activation, init, task, model, optimizer, training, probes, seed, keep, sources)
        for name, value in zip(kinds(Run), given, strict=True):
            object.__setattr__(self, name, value)
        self.__post_init__()
        if labels:
            for word in (word for word in labels if word not in self.words()):
                others = dict.fromkeys(key.split(".")[-1] for key in suggest_keys(word))
                near = (
                    f" (did you mean {' or '.join(others)}?)"
                    if others and word not in others
                    else ""
                )
                raise FadeoutError(
                    f"a run has no {word}{near}; give a parameter of an activation, initialiser, "
                    "task or optimiser to its section: Activation('leaky_relu', slope=0.1)"
                )
            changed = self.with_labels(labels)
            for name in kinds(Run):
                object.__setattr__(self, name, getattr(changed, name))

    def __post_init__(self):
        super().__post_init__()
        for word in self.keep:
            lookup(dict.fromkeys(_KEEP_CHOICES), word, "word of keep")
        object.__setattr__(self, "keep", tuple(word for word in _KEEP_CHOICES if word in self.keep))

    def replace_unchecked(self, **values: Any) -> Self:
        """The run with other sections or another seed, which are as they should be: nothing is
        checked again. Of the runs of a sweep most differ in their seed alone."""
        found = object.__new__(type(self))
        found.__dict__.update({name: getattr(self, name) for name in kinds(type(self))} | values)
        return found

    def static_part(self) -> Self:
        """The run with its traced values erased: runs that share this share a program.

        >>> Run(seed=1).static_part() == Run(optimizer=Optimizer(learning_rate=0.5)).static_part()
        True
        """
        sections: dict[str, Any] = {
            name: static_section(getattr(self, name)) for name in sections_of(Run)
        }
        return self.replace_unchecked(seed=0, **sections)

    def words(self) -> dict[str, tuple[str, str]]:
        """The section and key that each label stands for: the one word that a plot would use. An
        option whose word stands for something else as well is said in full, `activation.gain`.

        >>> Run(Activation("leaky_relu", slope=0.1)).words()["slope"]
        ('activation', 'slope')
        """
        return _label_keys(tuple(getattr(self, name).all_keys for name in sections_of(Run)))

    def labels(self) -> dict[str, Any]:
        """Every value by its label: `activation`, `depth`, `learning_rate`.

        >>> labels = Run().labels()
        >>> labels["activation"], labels["depth"], labels["seed"]
        ('tanh', 2, 0)
        """
        places = self.words().items()
        found = {word: getattr(getattr(self, section), key) for word, (section, key) in places}
        return found | {"seed": self.seed}

    def with_labels(self, labels: dict[str, Any]) -> Self:
        """The run with other values, each named by its label.

        >>> run = Run().with_labels({"depth": 3, "activation": "relu"})
        >>> run.model.depth, run.activation.name
        (3, 'relu')
        """
        changed: dict[str, dict[str, Any]] = {}
        for word, (section, key) in self.words().items():
            if word in labels:
                changed.setdefault(section, {})[key] = labels[word]
        sections: dict[str, Any] = {
            name: dataclasses.replace(getattr(self, name), **own) for name, own in changed.items()
        }
        return dataclasses.replace(self, **sections, seed=labels.get("seed", self.seed))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The run of plain nested data.

        Raises:
          FadeoutError: a key that the schema lacks, a wrong type, or a value out of range.
        """
        types = {name: kind for name, (kind, _) in kinds(cls).items()}
        values = {}
        for key, value in data.items():
            kind = lookup(types, key, "key")
            if key in sections_of(cls):
                if not isinstance(value, dict):
                    raise FadeoutError(f"{key} must be a group of keys, not {format_value(value)}")
                told = tuple((k, v, type(v)) for k, v in value.items())  # 1, 1.0 and true are equal
                try:
                    value = _cached_section(kind, key, told)
                except TypeError:  # an unhashable value, as a list
                    value = _cached_section.__wrapped__(kind, key, told)
            values[key] = value
        return cls(**values)

    def digest(self) -> str:
        """A hash of the config as it is written. Of a run whose defaults are written out it is the
        identity (`fadeout.identity`), by which results are found."""
        left_out = {name for name in ("keep", "sources") if not getattr(self, name)}
        names = (name for name in sorted(kinds(Run)) if name not in left_out)
        parts = [f'"{name}": {to_json(getattr(self, name))}' for name in names]
        text = f"[{NUMERICS}, {{{', '.join(parts)}}}]"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@lru_cache(maxsize=65536)
def _cached_section(kind: type, name: str, told: tuple[tuple[str, Any, type], ...]) -> Any:
    """A section of a config. Of ten thousand configs there are few: each is checked once."""
    for inner, *_ in told:
        if not issubclass(kind, Choice) or inner == "options":
            lookup(kinds(kind), inner, f"key of {name}")
    return kind(**{key: value for key, value, _ in told})


@lru_cache(maxsize=4096)
def _label_keys(keys: tuple[tuple[str, ...], ...]) -> dict[str, tuple[str, str]]:
    """`Run.words` of the keys of all sections."""
    places = [(s, key) for s, own in zip(sections_of(Run), keys, strict=True) for key in own]
    count = Counter(key for _, key in places)
    taken = {*sections_of(Run), *kinds(Run), *DATASET_NAMES, *DEFAULT_PROBES}

    def word(section: str, key: str) -> str:
        if key == "name":
            return section
        shared = count[key] > 1 or key in taken
        fixed = key in kinds(kinds(Run)[section][0])
        return f"{section}.{key}" if shared and not fixed else key

    return {word(*place): place for place in places}


_KEY_ALIASES = {
    "lr": "optimizer.learning_rate", "rate": "optimizer.learning_rate", "optim": "optimizer",
    "epochs": "training.steps", "iterations": "training.steps", "batch": "training.batch_size",
    "layers": "model.depth", "hidden": "model.width", "units": "model.width",
    "neurons": "model.width", "loss": "training.loss_function", "norm": "model.normalization",
    "initializer": "init", "initialization": "init", "act": "activation", "dataset": "task",
}  # fmt: skip
"""What others call a key."""


def suggest_keys(word: str) -> list[str]:
    """The keys that a word without its section may stand for."""
    if word in _KEY_ALIASES:
        return [_KEY_ALIASES[word]]
    return [f"{name}.{word}" for name in sections_of(Run) if word in kinds(kinds(Run)[name][0])]


DATASET_NAMES = (
    "loss", "accuracy", "status", "step", "layer", "run", "id", "config", "error", "sweep",
    "solved_step", "diverged_step", "diverged_layer", "diverged_backward", "reached_step",
    "validation_loss", "validation_accuracy", "last_kernel", "last_bias", "last_gain",
    "last_shift", "last_factor", "last_output", "last_target", "fan_in", "fan_out", "example",
    "output_unit",
)  # fmt: skip
"""What results have besides labels and probes."""

NUMERICS = 14
"""Raised whenever a change of the package changes the numbers of a run with the same config, or a
default."""
