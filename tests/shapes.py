"""The checker of declared shapes, which `conftest` puts into `networks` and `training`."""

import jax
import numpy as np
from beartype import BeartypeConf, FrozenDict, beartype

NUMBER = float | int | np.floating | np.ndarray | jax.Array
"""What a float may be: whole, traced, or one for each run."""

check = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({float: NUMBER})))
