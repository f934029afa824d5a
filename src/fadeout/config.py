"""The schema: what determines a run, with its types, defaults and ranges.

A float (and the seed) is *traced*: a new value never compiles a program. A string, integer or
boolean is *static*: it decides a shape or a program. A field's declared type says which it is,
not how somebody typed its value: 1 and 1.0 are the same learning rate. Fields that may be None
belong to some options of their group only. Nothing heavy is imported here, so that Hydra's help and
tab completion stay quick.
"""

import dataclasses
import hashlib
import json
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import Any, Self

from fadeout.registry import FadeoutError, lookup


def bounded(default, minimum=None, maximum=None, choices=None):
    """A field with a range, or with a fixed set of words."""
    bounds = {"minimum": minimum, "maximum": maximum, "choices": choices}
    return field(default=default, metadata=bounds)


def declared(section: type) -> dict[str, tuple[type, bool]]:
    """Per field of a section: its declared type, and whether it may be None."""

    def kind(hint) -> tuple[type, bool]:
        if isinstance(hint, UnionType):
            return next(option for option in hint.__args__ if option is not NoneType), True
        return typing.get_origin(hint) or hint, False

    return {name: kind(hint) for name, hint in typing.get_type_hints(section).items()}


kinds: Callable[[type], dict[str, tuple[type, bool]]] = cache(declared)


@dataclass(frozen=True)
class Section:
    """A frozen dataclass that checks and converts its own values."""

    def __post_init__(self):
        for f in dataclasses.fields(self):
            kind, optional = kinds(type(self))[f.name]
            value = getattr(self, f.name)
            if value is None and optional:
                continue
            where = f"{type(self).__name__.lower()}.{f.name}".removeprefix("run.").removeprefix(
                "config."
            )
            value = convert(value, kind, where)
            check_range(value, where, **f.metadata)
            object.__setattr__(self, f.name, value)


LARGEST = 3e38
"""Numbers must exist in float32."""


def convert(value: Any, kind: type, where: str) -> Any:
    """`value` as the declared type, or an error that says which type was expected."""
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:
        value = value.item()  # a number of NumPy's or JAX's
    number = isinstance(value, int | float) and not isinstance(value, bool)
    number = number and abs(value) <= LARGEST
    if kind is float and number:
        return float(value) + 0.0  # -0.0 is 0.0: equal values are one run, of one identity
    if kind is int and number and value == int(value):
        return int(value)
    if kind is tuple and isinstance(value, list | tuple):
        if not all(isinstance(word, str) for word in value):
            raise FadeoutError(f"{where} must be a list of words, not {value!r}")
        return tuple(value)
    if kind is str and isinstance(value, str | int | float):
        return str(value)
    if kind is dict and isinstance(value, dict):
        return {str(key): inner for key, inner in value.items()}
    if kind not in (float, int, tuple) and isinstance(value, kind):
        return value
    expected = {float: "a finite number", int: "a whole number", tuple: "a list", str: "a word"}
    expected |= {bool: "true or false"}
    raise FadeoutError(f"{where} must be {expected.get(kind, kind.__name__)}, not {value!r}")


def check_range(value, where, minimum=None, maximum=None, choices=None):
    if choices is not None:
        lookup(dict.fromkeys(choices), value, where)
    if minimum is not None and value < minimum:
        raise FadeoutError(f"{where} must be at least {minimum}, not {value}")
    if maximum is not None and value > maximum:
        raise FadeoutError(f"{where} must be at most {maximum}, not {value}")


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


NUMERICS = 5
"""Raised whenever a change of the package changes the numbers of a run with the same config."""


@lru_cache(maxsize=65536)
def canonical(value: Any) -> str:
    """A section or a value as JSON with sorted keys; the runs of a sweep share nearly all."""
    plain = dataclasses.asdict(value) if isinstance(value, Section) else value
    return json.dumps(plain, sort_keys=True)


def sections_of(schema: type) -> tuple[str, ...]:
    """The fields of a schema that are sections themselves."""
    return tuple(name for name, (kind, _) in kinds(schema).items() if issubclass(kind, Section))


@lru_cache(maxsize=65536)
def erase(section: Section) -> Section:
    """The section with 0 for every float: what is left is static."""
    return dataclasses.replace(section, **dict.fromkeys(traced(section), 0.0))


def traced(section: Section) -> dict[str, float]:
    """The floats of a section by name, without those that are None."""
    return {
        name: getattr(section, name)
        for name, (kind, _) in kinds(type(section)).items()
        if kind is float and getattr(section, name) is not None
    }


def options(section: Section) -> dict[str, Any]:
    """The fields of a section that only some of its options take, None where unset."""
    return {
        name: getattr(section, name)
        for name, (_, optional) in kinds(type(section)).items()
        if optional
    }


@dataclass(frozen=True)
class Config(Run):
    """A run, where its results go, and where compiled programs are kept: the root of conf/.

    With `forecast`, nothing is trained: what it would take is told. `axes` spans a grid of runs
    (`grids.expand`); those that `zipped` names advance together. `figure` is drawn besides those
    that every sweep gets (`plots.comparison.Comparison`).
    """

    name: str = "unnamed"
    outputs: str = "outputs"
    cache: str | None = None
    forecast: bool = False
    axes: dict[str, Any] = field(default_factory=dict)
    zipped: tuple[str, ...] = ()
    figure: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        super().__post_init__()
        path = PurePath(self.name)
        too_long = any(len(part.encode()) > 200 for part in path.parts)
        hidden = any(part.startswith(".") for part in path.parts)
        if (
            not path.parts
            or path.is_absolute()
            or hidden
            or too_long
            or not self.name.isprintable()
        ):
            raise FadeoutError(
                f"name must be a folder below outputs, of printable characters and not hidden, not "
                f"{self.name!r}"
            )
        for key in ("outputs", "cache"):
            if str(getattr(self, key)).startswith("~"):
                object.__setattr__(self, key, str(Path(getattr(self, key)).expanduser()))
            if not str(getattr(self, key)).isprintable():
                raise FadeoutError(
                    f"{key} must be of printable characters, not {getattr(self, key)!r}"
                )

    def folder(self) -> Path:
        """Where its results go."""
        return Path(self.outputs) / self.name

    def run(self) -> Run:
        return Run(**{f.name: getattr(self, f.name) for f in dataclasses.fields(Run)})
