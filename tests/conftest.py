import gc
import os
import shutil
import time
from pathlib import Path

import jax
import jaxtyping
import matplotlib
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.utils import setup_globals

# the shapes that functions of arrays declare are checked in all tests
jaxtyping.install_import_hook(["fadeout.networks", "fadeout.training"], "shapes.check")

from fadeout import api
from fadeout.cli import studies
from fadeout.config import Activation, Init, Model, Run, Training
from fadeout.networks.activations import ACTIVATIONS, DISPLAYS
from fadeout.registry import NAMES, TABLES
from fadeout.sweeps.sweep import sweep
from fadeout.training import programs
from fadeout.training.program_cache import DEFAULT_CACHE, SOURCES, use_program_cache

matplotlib.use("agg")

# All tests, and the processes that they start, share compiled programs; so does the next run, as
# long as no source that decides a program has changed.
COMPILED = os.environ.get("FADEOUT_COMPILED")
if COMPILED is None:
    programs_of_tests = Path(__file__).parents[1] / ".programs"
    COMPILED = os.environ["FADEOUT_COMPILED"] = str(programs_of_tests / SOURCES[:16])
    for other in programs_of_tests.glob("*"):
        old = time.time() - other.stat().st_mtime > 7 * 86400
        if old and other.name != Path(COMPILED).name:
            shutil.rmtree(other, ignore_errors=True)
use_program_cache(COMPILED)
# `fadeout.train(cache=None)`, as examples have it, keeps them too, and so do claims
for module in (api, studies):
    module.use_program_cache = lambda folder: use_program_cache(
        COMPILED if folder in (None, DEFAULT_CACHE) else folder
    )

SMALL = Training(steps=6, record_every=3)


def small_runs(seeds=2):
    """Two activations, and two depths of two programs."""
    return [
        Run(Activation(name), Init("he_normal"), model=Model(depth, 4), training=SMALL, seed=seed)
        for name in ("step", "tanh")
        for depth in (1, 5)
        for seed in range(seeds)
    ]


@pytest.fixture(scope="session")
def small_sweep(tmp_path_factory):
    """A folder with the results of `small_runs`."""
    folder = tmp_path_factory.mktemp("outputs") / "small"
    sweep(small_runs(), folder)
    return folder


@pytest.fixture(autouse=True)
def tables_as_they_were():
    """What a test registers is gone after it."""
    tables = [NAMES, DISPLAYS, *TABLES.values()]
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        if dict(table) != entries:
            table.clear()
            table.update(entries)


FEW = frozenset(
    ("step", "sigmoid", "tanh", "relu", "leaky_relu", "identity", "elu", "selu", "gelu", "softplus",
     "silu")
)  # fmt: skip


@pytest.fixture(autouse=True)
def few_activations(request, tables_as_they_were):
    """What needs no others, by the mark `few`, has `FEW` activations alone, or those that the mark
    names: a program holds all there are, and with half of them compiles in two thirds of the
    time."""
    mark = request.node.get_closest_marker("few")
    if mark:
        assert set(mark.args) <= set(ACTIVATIONS)
        for name in set(ACTIVATIONS) - (set(mark.args) or FEW):
            del ACTIVATIONS[name]


SLOW = frozenset((Path(__file__).parent / "slow.txt").read_text().split())
"""What takes a quarter of a minute or more: compiled anew, or trained by processes of its own."""


def pytest_collection_modifyitems(items):
    for item in items:
        if getattr(item, "originalname", None) in SLOW:
            item.add_marker(pytest.mark.slow)


MOST_MAPS = 20_000


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Every program takes maps of memory, of which Linux gives a process 65,530: beyond them XLA
    ends it without a word."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > MOST_MAPS:
        jax.clear_caches()
        for compile_one in (
            programs.compile_init,
            programs.compile_slope,
            programs.compile_fit,
        ):
            compile_one.clear()
        gc.collect()


@pytest.fixture
def loader():
    setup_globals()  # Hydra's resolvers, as its own main registers them
    return ConfigLoaderImpl(create_config_search_path(str(Path(__file__).parents[1] / "conf")))


# --- a real browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("NO BROWSER: the pages were not opened; apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser):
    """Opens a file, and in the end says whether anything went wrong or was fetched."""
    wrong, pages = [], []

    def open_page(path, fragment="", **options):
        page = browser.new_page(**options)
        pages.append(page)
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda r: wrong.append(r.url) if r.url != path.as_uri() else None)
        page.goto(f"{path.as_uri()}{'#' if fragment else ''}{fragment}")
        page.wait_for_selector("body[data-ready=yes]")
        return page

    yield open_page
    for page in pages:
        page.close()
    assert wrong == []
