# The environment is private (.venv), pinned and hashed (requirements.lock).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test quick third lint lock docs figures gallery clean

demo: $(READY) ## trains the note's four activations over depth and seeds, and draws what happened
	$(BIN)/fadeout train -m +experiment=demo

test: $(READY) ## runs the suite
	$(BIN)/python -m pytest -n 2 --dist worksteal

quick: $(READY) ## the suite without what is slow
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

third: $(READY) ## a third of the suite, for another Python and another JAX
	$(BIN)/python -m pytest -n 2 --dist worksteal src/fadeout tests/networks tests/theory tests/analysis \
	  tests/test_config.py tests/test_docs.py tests/test_extensions.py tests/training/test_programs.py \
	  tests/training/test_digests.py \
	  tests/training/test_training.py tests/sweeps/test_store.py tests/sweeps/test_sweep.py

lint: $(READY) ## format, lint, layers, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fadeout needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(READY)

figures: $(READY) ## draws the pictures anew against which the suite compares
	$(BIN)/python -m pytest -q tests/plots --mpl-generate-path=tests/plots/figures

gallery: $(READY) ## makes the README's pictures anew; needs chromium
	$(BIN)/python scripts/gallery.py

docs: ## the site in site/, strictly, in an environment of its own
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-docs.lock
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet

lock: ## pins and hashes for Python 3.11 and newer; needs uv
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
	  --python-version 3.11 --extra dev --no-annotate pyproject.toml -o requirements.lock
	echo 'mkdocs-material>=9\nmkdocstrings[python]>=0.27' | uv pip compile --quiet --universal --generate-hashes \
	  --no-emit-index-url --no-header --python-version 3.11 --no-annotate - -o requirements-docs.lock

clean:
	rm -rf $(VENV) .programs
