# Everything runs in a local .venv, made once and made again only when pyproject.toml changes.
PYTHON ?= python3
# The plain name installs the CPU build where one is at hand; give TORCH=torch for the newest CUDA build.
TORCH ?= torch==2.13.0
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test test-all test-tinker page lint lint-page docs bench clean

demo: .venv/.demo
	$(BIN)/fettle demo

test: .venv/.dev page lint
	$(BIN)/pytest -n auto -m "not slow"

test-all: .venv/.dev page lint
	$(BIN)/pytest -n auto

# The page's modules, bundled where one has changed.
page: .venv/.dev
	$(BIN)/python hatch_build.py

# Against SkyRL's server. Its environment, 2.2 GB, is built once in ~/.cache/fettle-tests (FETTLE_SKYRL).
test-tinker: .venv/.dev
	FETTLE_REQUIRE_SKYRL=1 $(BIN)/pytest -m skyrl

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# The types in the page's comments; needs Node, which nothing else here does.
lint-page:
	npx --yes --package typescript@5.9 tsc --project tests/page/types

bench: .venv/.dev
	$(BIN)/python benchmarks/scoring.py
	$(BIN)/python benchmarks/harness_tasks.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/tinker_service.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/event_log.py
	$(BIN)/python benchmarks/callback.py
	$(BIN)/python benchmarks/alerts.py
	$(BIN)/python benchmarks/verdict.py
	$(BIN)/python benchmarks/monitor.py
	$(BIN)/python benchmarks/lens_extraction.py
	$(BIN)/python benchmarks/lenses.py

docs: .venv/.dev
	$(BIN)/python docs/generate.py

clean:
	rm -rf .venv demo

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.demo: .venv/bin/python pyproject.toml hatch_build.py
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[train]"
	touch $@

.venv/.dev: .venv/.demo pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@
