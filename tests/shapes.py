"""The checker of declared shapes, which `conftest` puts into `networks` and `training`."""

import jax
import numpy as np
from beartype import BeartypeConf, FrozenDict, beartype

NUMBER = float | int | np.floating | jax.Array
"""What a float may be: whole, or traced."""

check = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({float: NUMBER})))
