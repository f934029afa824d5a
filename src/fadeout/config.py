"""The schema: what determines a run, with its types, defaults and ranges.

A float (and the seed) is *traced*: a new value never compiles a program. A string, integer or
boolean is *static*: it decides a shape or a program. A field's declared type says which it is,
not how somebody typed its value: 1 and 1.0 are the same learning rate. Fields that may be None
belong to some options of their group only. Nothing heavy is imported here, so that Hydra's help and
tab completion stay quick.
"""

import dataclasses
import hashlib
from dataclasses import dataclass, field
from typing import Any, Self

from fadeout.registry import FadeoutError, lookup
from fadeout.schema import Section, bounded, canonical, erase, kinds, sections_of


@dataclass(frozen=True)
class Activation(Section):
    """The activation function, by its name in `fadeout.activations`, and its parameters."""

    name: str = "tanh"
    surrogate: str = "none"
    slope: float | None = None
    alpha: float | None = None
    beta: float | None = None


@dataclass(frozen=True)
class Init(Section):
    """The initialiser, by its name in `fadeout.initializers`; every kernel is scaled by `gain`."""

    name: str = "glorot_normal"
    gain: float = 1.0
    bias_variance: float = bounded(0.0, minimum=0)
    value: float | None = None
    stddev: float | None = bounded(None, minimum=0)
    limit: float | None = bounded(None, minimum=0)
    weight_variance: float | None = bounded(None, minimum=0)


@dataclass(frozen=True)
class Task(Section):
    """The task, by its name in `fadeout.tasks`."""

    name: str = "xor"
    inputs: str = bounded("binary", choices=("binary", "bipolar", "centred"))
    bits: int | None = bounded(None, minimum=1, maximum=12)
    examples: int | None = bounded(None, minimum=1, maximum=65536)
    features: int | None = bounded(None, minimum=1, maximum=4096)
    noise: float | None = bounded(None, minimum=0)


@dataclass(frozen=True)
class Model(Section):
    """A perceptron of `depth` hidden layers of `width` units each."""

    depth: int = bounded(2, minimum=1, maximum=10_000)
    width: int = bounded(8, minimum=1, maximum=16_384)


@dataclass(frozen=True)
class Optimizer(Section):
    """The optimiser, by its name in `fadeout.optimizers`; hyperparameters have optax's names.

    The readout's steps are multiplied by `readout_factor`.
    """

    name: str = "adam"
    learning_rate: float = bounded(0.01, minimum=0)
    readout_factor: float = bounded(1.0, minimum=0)
    schedule: str = bounded("constant", choices=("constant", "cosine", "warmup"))
    warmup_steps: int = bounded(0, minimum=0)
    momentum: float | None = bounded(None, minimum=0, maximum=1)
    b1: float | None = bounded(None, minimum=0, maximum=0.99999)
    b2: float | None = bounded(None, minimum=0, maximum=0.99999)
    decay: float | None = bounded(None, minimum=0, maximum=0.99999)
    eps: float | None = bounded(None, minimum=0)
    weight_decay: float | None = bounded(None, minimum=0)

    def __post_init__(self):
        super().__post_init__()
        if self.warmup_steps and self.schedule != "warmup":
            raise FadeoutError(
                f"optimizer.warmup_steps={self.warmup_steps} needs optimizer.schedule=warmup, "
                f"not {self.schedule}"
            )


@dataclass(frozen=True)
class Training(Section):
    """Full-batch training; quantities are recorded at step 0, record_every, ..., steps."""

    steps: int = bounded(1000, minimum=0, maximum=100_000_000)
    record_every: int = bounded(10, minimum=1)
    loss_function: str = bounded("cross_entropy", choices=("cross_entropy", "squared_error"))
    dtype: str = bounded("float32", choices=("float32", "float64"))

    def __post_init__(self):
        super().__post_init__()
        if self.steps % self.record_every:
            nearest = self.steps - self.steps % self.record_every
            raise FadeoutError(
                f"training.steps={self.steps} is not a multiple of training.record_every="
                f"{self.record_every}: set training.steps={nearest or self.record_every}, "
                "or another record_every"
            )


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


@dataclass(frozen=True)
class Run(Section):
    """Everything that determines the numbers of one run, and nothing else."""

    activation: Activation = field(default_factory=Activation)
    init: Init = field(default_factory=Init)
    task: Task = field(default_factory=Task)
    model: Model = field(default_factory=Model)
    optimizer: Optimizer = field(default_factory=Optimizer)
    training: Training = field(default_factory=Training)
    probes: tuple[str, ...] = DEFAULT_PROBES
    seed: int = bounded(0, minimum=0, maximum=2**32 - 1)

    def erased(self) -> Self:
        """The run with its traced values erased: runs that share this share a program.

        >>> Run(seed=1).erased() == Run(optimizer=Optimizer(learning_rate=0.5)).erased()
        True
        """
        sections: dict[str, Any] = {name: erase(getattr(self, name)) for name in sections_of(Run)}
        return dataclasses.replace(self, seed=0, **sections)

    def labels(self) -> dict[str, Any]:
        """Every value by the one word a plot would use: `activation`, `depth`, `learning_rate`.

        >>> labels = Run().labels()
        >>> labels["activation"], labels["depth"], labels["slope"], labels["seed"]
        ('tanh', 2, None, 0)
        """
        labels = {}
        for section in sections_of(Run):
            for key, value in vars(getattr(self, section)).items():
                labels[section if key == "name" else key] = value
        return labels | {"seed": self.seed}

    def with_labels(self, labels: dict[str, Any]) -> Self:
        """The run with other values, each named by its label.

        >>> Run().with_labels({"depth": 3, "activation": "relu"}).model
        Model(depth=3, width=8)
        """
        sections: dict[str, Any] = {}
        for section in sections_of(Run):
            words = {f: section if f == "name" else f for f in vars(getattr(self, section))}
            own = {key: labels[word] for key, word in words.items() if word in labels}
            if own:
                sections[section] = dataclasses.replace(getattr(self, section), **own)
        return dataclasses.replace(self, **sections, seed=labels.get("seed", self.seed))

    def as_dict(self) -> dict[str, Any]:
        """The run as plain nested data, for JSON."""
        return dataclasses.asdict(self)

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
                    raise FadeoutError(f"{key} must be a group of keys, not {value!r}")
                for inner in value:
                    lookup(kinds(kind), inner, f"key of {key}")
                value = kind(**value)
            values[key] = value
        return cls(**values)

    def digest(self) -> str:
        """A hash of the config as it is written. Of a run whose defaults are written out it is the
        identity (`fadeout.identity`), by which results are found."""
        parts = [f'"{name}": {canonical(getattr(self, name))}' for name in sorted(kinds(Run))]
        text = f"[{NUMERICS}, {{{', '.join(parts)}}}]"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


NUMERICS = 6
"""Raised whenever a change of the package changes the numbers of a run with the same config."""
