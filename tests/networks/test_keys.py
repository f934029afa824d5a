"""The generator of all draws, against JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fadeout.config import Init, Model, Run, Task, Training
from fadeout.networks import initializers, tasks
from fadeout.networks.keys import GENERATOR, drawing_keys, seed_key
from fadeout.networks.tasks import shuffle
from fadeout.training.initialization import holdout_order, run_keys
from fadeout.training.programs import train_runs

pytestmark = pytest.mark.few("tanh", "relu")


@pytest.mark.parametrize("depth", [1, 2, 7])
def test_keys_are_those_of_jax(depth):
    """Of many seeds at once, at both ends of what a seed may be."""
    seeds = np.array([0, 1, 77, 2**31, 2**32 - 1], np.uint32)
    found = run_keys(seeds, depth)
    for number, seed in enumerate(seeds):
        key = jax.random.key(seed)
        below = [jax.random.fold_in(key, i) for i in range(3)]
        first, hidden, readout = jax.random.split(below[1], 3)
        layers = [first, *jax.random.split(hidden, depth)[1:], readout]
        wanted = {"examples": below[0], "held": below[2],
                  "layers": jnp.stack([jax.random.split(layer) for layer in layers])}  # fmt: skip
        for name, own in wanted.items():
            np.testing.assert_array_equal(found[name][..., number], jax.random.key_data(own))


def test_what_is_held_out_is_the_same_whatever_generator_jax_is_set_to():
    with jax.default_prng_impl("rbg"):
        key = drawing_keys(run_keys(np.array([3], np.uint32), 1)["held"][:, 0], shuffle)
        order = holdout_order(np.array([3], np.uint32), 8)[:, 0]
        np.testing.assert_array_equal(shuffle(key, 8), order)


DRAWS = {
    "normal": lambda key: jax.random.normal(key, (7, 3)),
    "truncated normal": lambda key: jax.random.truncated_normal(key, -2, 2, (7, 3)),
    "uniform": lambda key: jax.random.uniform(key, (7, 3), minval=-1),
    "permutation": lambda key: jax.random.permutation(key, 300),
    "choice": lambda key: jax.random.choice(key, 30, (5,), replace=False),
    "fold in": lambda key: jax.random.key_data(jax.random.fold_in(key, 2**31 + 5)),
    "split": lambda key: jax.random.key_data(jax.random.split(key, (2, 3))),
    "a scalar": jax.random.normal,
    "nothing": lambda key: jax.random.normal(key, (0, 3)),
    "8 bits": lambda key: jax.random.bits(key, (40,), "uint8"),
    "16 bits": lambda key: jax.random.bits(key, (40,), "uint16"),
    "64 bits": lambda key: jax.random.bits(key, (40,), "uint64"),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_those_of_jax(name):
    """Of several keys under vmap, as lanes have them."""
    keys = seed_key(np.array([0, 77, 2**32 - 1], np.uint32)) + np.uint32(5)
    with jax.enable_x64(name == "64 bits"):
        wanted = jax.vmap(DRAWS[name])(jax.random.wrap_key_data(keys, impl="threefry2x32"))
        found = jax.vmap(DRAWS[name])(jax.random.wrap_key_data(keys, impl=GENERATOR))
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def test_functions_of_the_package_draw_from_it():
    assert drawing_keys(seed_key(3), shuffle).dtype == jax.random.key(3, impl=GENERATOR).dtype
    assert drawing_keys(seed_key(3), lambda key: key).dtype == jax.random.key(3).dtype


def test_a_seed_is_the_key_of_jax():
    for seed in (0, 3, 2**32 - 1):
        key = jax.random.key(np.uint32(seed), impl=GENERATOR)
        np.testing.assert_array_equal(jax.random.key_data(key), seed_key(seed))


def test_functions_of_ones_own_draw_from_keys_of_jax():
    """Which alone `jax.random.poisson` takes."""

    @initializers.initializer
    def counts(key, shape, dtype):
        return jax.random.poisson(key, 2.0, shape).astype(dtype)

    @tasks.task
    def counted(key):
        return jax.random.poisson(key, 2.0, (4, 2)), jnp.arange(4) % 2

    run = Run(init=Init("counts"), task=Task("counted"), model=Model(1, 3), training=Training(1, 1))
    assert np.isfinite(train_runs(run).loss).all()
