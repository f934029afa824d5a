"""What theory predicts of a random network, for any activation. No network is trained.

Conventions (Poole 2016, Schoenholz 2017): z = W phi(z below) + b with W ~ (0, weight_variance /
fan_in) and b ~ (0, bias_variance), variance q = E z^2, Z a standard normal. An activation is a name
of `fadeout.networks.activations` or a function of an array.
"""

from fadeout.theory.finite_width import dead_probability, deep_linear, log_gradient_moments
from fadeout.theory.gaussian import (
    Moments,
    freeze,
    function_of,
    moments,
    saturated_share,
    value_and_slope,
)
from fadeout.theory.mean_field import (
    CriticalPoint,
    DepthScales,
    chi,
    correlation_fixed_point,
    correlation_map,
    critical,
    depth_scales,
    edge,
    fixed_point,
    gradient_profile,
    spread_added,
    variance_map,
    variances,
)
from fadeout.theory.remedies import (
    BATCH_NORM_RELU,
    Profile,
    branch_factor,
    normalised_chi,
    profile,
)

__all__ = [
    "BATCH_NORM_RELU",
    "CriticalPoint",
    "DepthScales",
    "Moments",
    "Profile",
    "branch_factor",
    "chi",
    "correlation_fixed_point",
    "correlation_map",
    "critical",
    "dead_probability",
    "deep_linear",
    "depth_scales",
    "edge",
    "fixed_point",
    "freeze",
    "function_of",
    "gradient_profile",
    "log_gradient_moments",
    "moments",
    "normalised_chi",
    "profile",
    "saturated_share",
    "spread_added",
    "value_and_slope",
    "variance_map",
    "variances",
]  # fmt: skip
