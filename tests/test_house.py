"""The plan of the house: imports point down, and each outside library enters by one door."""

import ast
from pathlib import Path

import pytest

import fadeout

SOURCE = Path(fadeout.__file__).parent
FLOORS = [
    {"registry", "lanes", "provenance", "interrupts", "intervals"},
    {"files", "activations", "initializers", "tasks", "config", "executors"},
    {"model", "optimizers", "grids", "theory", "probes", "compose"},
    {"training"},
    {"programs"},
    {"results", "films"},
    {"store", "queue", "verdicts"},
    {"sweep", "claims"},
    {"plots", "console", "jobs"},
    {"app", "studies", "pages"},
]
DOORS = {
    "flax": {"model"},
    "optax": {"optimizers"},
    "matplotlib": {"plots"},
    "rich": {"console"},
    "hydra": {"compose", "app", "jobs", "studies"},
    "omegaconf": {"compose", "app", "jobs"},
    "h5netcdf": {"store"},
    "xarray": {
        "results",
        "store",
        "sweep",
        "plots",
        "console",
        "verdicts",
        "claims",
        "studies",
        "pages",
    },
    "h5py": {"store"},
    "scipy": {"intervals", "theory", "claims", "plots"},
    "jax": {
        "programs",
        "lanes",
        "activations",
        "initializers",
        "tasks",
        "probes",
        "model",
        "theory",
        "training",
        "queue",
        "films",
    },
}


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def test_every_room_has_a_floor():
    assert {room(path) for path in FILES} == set().union(*FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down_and_libraries_enter_by_their_door(path):
    floor = {name: i for i, names in enumerate(FLOORS) for name in names}
    here = room(path)
    for name in imports(path):
        package, *rest = name.split(".")
        if package == "fadeout" and rest and rest[0] != here:
            assert floor[rest[0]] < floor[here], f"{here} imports {rest[0]}"
        if package in DOORS:
            assert here in DOORS[package], f"{here} imports {package}"
