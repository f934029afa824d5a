"""What mean-field theory expects of residual branches and of normalised preactivations.

Checked by simulation: tests/theory/test_remedies.py. Conventions as in `mean_field`; q_l = E z^2 of
the preactivations, before they are normalised.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fadeout.config import RESIDUAL_SCALES
from fadeout.networks import remedies
from fadeout.networks.remedies import EPSILON
from fadeout.registry import FadeoutError, lookup
from fadeout.theory.gaussian import ActivationLike, checks_arguments, moments

BATCH_NORM_RELU = math.pi / (math.pi - 1)
"""The mean squared gain of delta per layer of relu with batch normalisation of a large batch: the
gradient explodes, 0.083 decades a layer, whatever the weights. Reference: Yang, Pennington, Rao,
Sohl-Dickstein & Schoenholz 2019."""


_BEYOND = 1e60
"""Variances from here on are infinite."""


class Profile(NamedTuple):
    """A random network, hidden layer by hidden layer.

    Attributes:
      variances: q_l, [depth].
      seen: the variance of what the activation is given, [depth].
      gains: by how much the squared norm of delta is multiplied from layer l + 1 down to l,
        [depth - 1].
    """

    variances: np.ndarray
    seen: np.ndarray
    gains: np.ndarray

    @property
    def gradient(self) -> np.ndarray:
        """log10 of the delta norm of every hidden layer less that of the last, [depth]."""
        with np.errstate(divide="ignore"):
            logs = 0.5 * np.log10(self.gains)
        return np.append(np.cumsum(logs[::-1])[::-1], 0.0)


@checks_arguments
def profile(
    activation: ActivationLike | Sequence[ActivationLike],
    depth: int,
    weight_variance: float,
    bias_variance: float = 0.0,
    variance: float = 1.0,
    branch: float | None = None,
    normalised: bool = False,
) -> Profile:
    """Returns the mean-field profile of a network of equal widths, with residual branches and
    normalisation.

    Args:
      activation: of all hidden layers, or a list of one for each.
      variance: q_1.
      branch: the factor a of every residual branch, at initialisation; None where there are none.
      normalised: whether each example's preactivations are brought to mean square 1 before the
        activation, by rms or layer normalisation.

    A layer makes q' = sw2 E phi^2 + sb2 and multiplies the squared delta by c = sw2 E phi'^2, over
    q where it is normalised; a residual branch makes q + a^2 q' and 1 + a^2 c of them. References:
    Yang & Schoenholz 2017 for residual networks, Xu 2019 for layer normalisation.

    >>> profile("relu", 3, 2.0, branch=1.0).variances.tolist()
    [1.0, 2.0, 4.0]
    >>> settled = profile("relu", 2, 0.3, variance=0.15, normalised=True)
    >>> round(float(10 ** settled.gradient[0]), 3)
    1.0
    """
    several = isinstance(activation, list | tuple)
    each: Any = activation if several else [activation] * depth
    if len(each) != depth:
        raise FadeoutError(f"there are {len(each)} activations for {depth} hidden layers")
    found, seen, gains = [float(variance)], [], []
    for layer in range(depth):
        q = found[-1]
        seen.append(q / (q + EPSILON) if normalised else q)
        if layer == depth - 1:
            break
        if q > _BEYOND:
            found.append(math.inf)
            gains.append(math.nan)
            continue
        known = moments(each[layer], seen[-1])
        grown = weight_variance * known.square + bias_variance
        gain = weight_variance * known.slope_square
        if normalised:
            gain = gain / (q + EPSILON)
        if branch is not None:
            grown, gain = q + branch**2 * grown, 1 + branch**2 * gain
        found.append(grown)
        gains.append(gain)
    return Profile(np.array(found), np.array(seen), np.array(gains))


@checks_arguments
def normalised_chi(activation: ActivationLike, bias_over_weight: float = 0.0) -> float:
    """The mean squared gain of delta per layer with rms or layer normalisation, deep in a plain
    network: E phi'(Z)^2 / (E phi(Z)^2 + sb2 / sw2). Without biases no weight variance counts.

    This is the limit without the constant 1e-5 that normalisation adds to the mean square. Where
    sw2 E phi^2 comes near that, the gradient vanishes as in a plain network: `profile` knows it.

    >>> round(normalised_chi("relu"), 12), round(normalised_chi("sigmoid"), 2)
    (1.0, 0.15)
    """
    known = moments(activation, 1.0)
    return known.slope_square / (known.square + bias_over_weight)


@checks_arguments
def branch_factor(residual: float, scale: str, depth: int) -> float | None:
    """The factor of residual branches at initialisation; None where there are none."""
    if not residual:
        return None
    lookup(dict.fromkeys(RESIDUAL_SCALES), scale, "residual_scale")
    return 0.0 if scale == "zero" else remedies.residual_factor(residual, scale, depth)
