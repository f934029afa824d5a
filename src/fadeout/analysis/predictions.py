"""What theory expects of a measured quantity, for the figures that draw it beside."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from fadeout import theory
from fadeout.networks.activations import ACTIVATIONS, is_by_layer, layers_of_name
from fadeout.networks.initializers import OWN_BIASES, kernel_variance, variance_scaling
from fadeout.registry import FadeoutError, parameters
from fadeout.sweeps.results import options_of

_Labels = Mapping[str, Any]
"""The config values that all runs of a line share; others are absent."""


def hidden_weight_variance(labels: _Labels) -> float | None:
    """Returns the variance of hidden weights times their fan-in, or None if the initialiser does
    not tell.

    >>> hidden_weight_variance({"init": "he_normal", "gain": 0.5})
    0.5
    """
    name, gain = str(labels.get("init")), labels.get("gain")
    drawn = labels.get("weight_variance")
    told = {} if drawn is None else {"weight_variance": drawn}
    known = variance_scaling(name, **told) if told or name != "mean_field" else None
    if known is None or gain is None or known[1] == "fixed" or name in OWN_BIASES:
        return None
    return known[0] * gain**2  # of square layers all fans are one


@lru_cache(maxsize=256)
def _make_activation(function: Callable, parameters: tuple[tuple[str, Any], ...]) -> Callable:
    """One object for each choice of parameters, so that what is known of it is found again."""
    return partial(function, **dict(parameters)) if parameters else function


def activation_of(labels: _Labels) -> Callable | None:
    """None where it is not one, unknown, or its slope is a surrogate's, or where a parameter that
    it takes varies."""
    function = ACTIVATIONS.get(str(labels.get("activation")))
    if function is None or labels.get("surrogate", "none") != "none":
        return None
    chosen = options_of("activation", function, labels)
    return (
        _make_activation(function, tuple(chosen.items()))
        if {*parameters(function)} == {*chosen}
        else None
    )


def _activations_of(labels: _Labels) -> list[Callable] | None:
    """The activation of every hidden layer; None as `activation_of`."""
    name, depth = str(labels.get("activation")), labels.get("depth")
    if not is_by_layer(name):
        phi = activation_of(labels)
        return None if phi is None or depth is None else [phi] * int(depth)
    try:
        found = [activation_of(dict(labels) | {"activation": own}) for own in layers_of_name(name)]
    except FadeoutError:  # of another version, which knows other activations
        return None
    return None if None in found or len(found) != depth else found  # type: ignore[return-value]


BOOLEAN = ("xor", "and", "or", "nand", "linear", "parity")
"""Tasks whose inputs are corners, and nothing besides."""


def _effective_inputs(labels: _Labels) -> int | None:
    """How many inputs of mean square 1 a task has; None where its examples are of another size, as
    XOR's on {0, 1}, which differ in norm."""
    task = labels.get("task")
    if task == "teacher":
        return _as_whole_number(labels.get("features"))
    if labels.get("inputs") != "bipolar" or task not in BOOLEAN:
        return None
    return _as_whole_number(labels.get("bits")) if task == "parity" else 2


def _as_whole_number(value: Any) -> int | None:
    """A label as a whole number; None where runs differ in it, or have none."""
    return None if value is None or not np.isfinite(value) else int(value)


def _first_variance(labels: _Labels, inputs: int, sw2: float) -> float | None:
    """The variance of the first hidden layer's preactivations, but for the biases: its kernel is
    not square, which Glorot's and orthogonal ones notice."""
    name, width = str(labels.get("init")), labels.get("width")
    known = variance_scaling(name, weight_variance=1.0)
    if known is None or known[1] == "fan_in":
        return sw2
    if width is None:
        return None
    own = kernel_variance(name, inputs, width)
    return sw2 * inputs * own / known[0] if own else None


class _RandomNetwork(NamedTuple):
    """A random network as mean field sees it.

    Attributes:
      phi: the activation of every hidden layer.
      weight_variance, bias_variance: times fan-in, as in `theory`.
      variances: of what the activation is given in every hidden layer.
      gradient: log10 of every hidden layer's delta norm less the last's.
    """

    phi: list[Callable]
    weight_variance: float
    bias_variance: float
    variances: list[float]
    gradient: np.ndarray

    def moments(self) -> list[theory.Moments]:
        pairs = zip(self.phi, self.variances, strict=True)
        return [theory.moments(phi, variance) for phi, variance in pairs]


def _random_network(labels: _Labels) -> _RandomNetwork | None:
    """The network of these labels; None where they leave open what theory needs."""
    phi, sw2, sb2 = (
        _activations_of(labels),
        hidden_weight_variance(labels),
        labels.get("bias_variance"),
    )
    inputs = _effective_inputs(labels)
    named = {"depth", "init", *_REMEDY_KEYS} <= set(labels)
    if phi is None or sw2 is None or sb2 is None or inputs is None or not named:
        return None
    first = _first_variance(labels, inputs, sw2)
    if first is None:
        return None
    depth, normalization = int(labels["depth"]), labels["normalization"]
    if normalization == "batch":  # of the few examples here it is far from that of very many
        return None
    branch = theory.branch_factor(labels["residual"], labels["residual_scale"], depth)
    found = theory.profile(phi, depth, sw2, sb2, first + sb2, branch, normalization != "none")
    return _RandomNetwork(phi, sw2, sb2, found.seen.tolist(), found.gradient)


_REMEDY_KEYS = ("residual", "residual_scale", "normalization")


def _is_plain(labels: _Labels) -> bool:
    """Returns whether all layers are phi(W h + b)."""
    return labels.get("residual") == 0 and labels.get("normalization") == "none"


def predict_delta_norm(labels: _Labels, layers: np.ndarray) -> np.ndarray | None:
    """Relative to the last hidden layer's, by chi of every layer (Schoenholz 2017), with branches
    and normalisations (`theory.profile`)."""
    network = _random_network(labels)
    if network is None:
        return None
    return _at_layers(10.0**network.gradient, layers)


def _predict_activation_std(labels: _Labels, layers: np.ndarray) -> np.ndarray | None:
    """sqrt(E phi^2 - (E phi)^2) at every layer's variance (Poole 2016)."""
    if (network := _random_network(labels)) is None:
        return None
    spread = [math.sqrt(max(m.square - m.value**2, 0.0)) for m in network.moments()]
    return _at_layers(np.array(spread), layers)


def _predict_activation_mean(labels: _Labels, layers: np.ndarray) -> np.ndarray | None:
    """E phi at every layer's variance."""
    if (network := _random_network(labels)) is None:
        return None
    return _at_layers(np.array([m.value for m in network.moments()]), layers)


def _predict_jacobian_spread(labels: _Labels, layers: np.ndarray) -> np.ndarray | None:
    """Sums of mu_2 / mu_1^2 - 1 - s_1 over the layers below (Pennington 2017, eq. 22)."""
    if (network := _random_network(labels)) is None or not _is_plain(labels):
        return None
    orthogonal = labels["init"] == "orthogonal"
    added = [theory.spread_added(m, orthogonal) for m in network.moments()]
    return _at_layers(np.cumsum([0.0, *added[:-1]]), layers)


def _predict_born_dead(labels: _Labels, depths: np.ndarray) -> np.ndarray | None:
    """1 - prod(1 - 2^-width), exact for relu and one input (Lu et al. 2019)."""
    drawn = hidden_weight_variance(labels) is not None and labels.get("init") != "orthogonal"
    drawn = drawn and _is_plain(labels)
    if labels.get("activation") != "relu" or labels.get("examples") != 1 or not drawn:
        return None
    if "width" not in labels:
        return None
    return np.array([theory.dead_probability(*[int(labels["width"])] * int(d)) for d in depths])


def _predict_loss(labels: _Labels, steps: np.ndarray) -> np.ndarray | None:
    """Gradient flow of a deep linear network whose layers are aligned (Saxe 2014)."""
    named = {
        "activation": "identity", "task": "linear", "inputs": "bipolar", "init": "constant",
        "optimizer": "sgd", "schedule": "constant", "readout_factor": 1.0,
        "loss_function": "squared_error", "bias_variance": 0.0, "residual": 0.0,
        "normalization": "none", "parametrization": "standard", "output": "linear",
        "targets": "binary", "held_out": 0,
    }  # fmt: skip
    numbers = {"depth", "width", "value", "gain", "learning_rate"}
    if any(labels.get(k) != v for k, v in named.items()) or not numbers <= set(labels):
        return None
    if any(_as_whole_number(labels.get(key, 1)) is not None for key in ("batch_size", "clip")):
        return None
    weight, width = labels["value"] * labels["gain"], labels["width"]
    ends = [weight * math.sqrt(2 * width), weight * math.sqrt(width)]
    start = [ends[0], *[weight * width] * (int(labels["depth"]) - 1), ends[1]]
    strength = math.sqrt(0.5)
    product = theory.deep_linear(start, strength, 2 * labels["learning_rate"] * steps)
    return (product - strength) ** 2


def _predict_sharpness(labels: _Labels, steps: np.ndarray) -> np.ndarray | None:
    """2 / learning rate, where gradient descent begins to oscillate (Cohen et al. 2021)."""
    named = {"optimizer": "sgd", "schedule": "constant", "readout_factor": 1.0,
             "parametrization": "standard"}  # fmt: skip
    if any(labels.get(key) != value for key, value in named.items()):
        return None
    if any(_as_whole_number(labels.get(key, 1)) is not None for key in ("batch_size", "clip")):
        return None
    if not labels.get("learning_rate"):
        return None
    return np.full(len(steps), 2 / labels["learning_rate"])


def _at_layers(values: np.ndarray, layers: np.ndarray) -> np.ndarray:
    """Returns the values at hidden layers 1, 2, ..., and NaN at the readout."""
    padded = np.append(values, np.nan)
    return padded[np.minimum(layers - 1, values.size)]


PREDICTIONS: dict[tuple[str, str], Callable[[_Labels, np.ndarray], np.ndarray | None]] = {
    ("delta_norm", "layer"): predict_delta_norm,
    ("activation_std", "layer"): _predict_activation_std,
    ("activation_mean", "layer"): _predict_activation_mean,
    ("jacobian_spread", "layer"): _predict_jacobian_spread,
    ("born_dead", "depth"): _predict_born_dead,
    ("loss", "step"): _predict_loss,
    ("sharpness", "step"): _predict_sharpness,
}
"""By quantity and axis: what is expected there, or None where theory says nothing of such runs."""

RELATIVE = {"delta_norm"}
"""Known up to a factor, which the last hidden layer's median sets."""
