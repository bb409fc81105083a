# Everything a developer runs. `make quickstart` and `make test` work on a fresh clone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile
# torch is asked for exactly: a range would bring gigabytes of GPU libraries to machines without one
TORCH := $(shell sed -n '/^torch==/p' constraints.txt)
WORKERS ?= 2
# what is imported is compiled once, not anew by each of the many processes that tests and claims start
unexport PYTHONDONTWRITEBYTECODE
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: quickstart test test-gpu lint docs bench claims wheel clean

quickstart: $(VENV)/.run
	$(ONE_THREAD) $(BIN)/secateur compare builtin:digits-cnn --task builtin:digits \
	  --methods magnitude,global-mp,lamp,gmp,imp --sparsity 0.8,0.9,0.95 --seeds 3 --heal 3 --small-dense \
	  -o runs/quickstart
	$(ONE_THREAD) $(BIN)/secateur compare builtin:digits-cnn --task builtin:digits --structure channels \
	  --methods magnitude,depgraph,spa --sparsity 0.25,0.5 --seeds 3 --heal 3 --small-dense -o runs/quickstart-channels

# a file's tests run in one process, so that what they share is made once
test: $(VENV)/.dev
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder -m "not gpu"

test-gpu: $(VENV)/.dev
	$(BIN)/python -m pytest -m gpu

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# never with -q, which hides dead links from --strict
docs: $(VENV)/.dev
	$(BIN)/python docs/build.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.dev
	for script in masked_step global_magnitude cli_start load report sweep; do \
	  $(ONE_THREAD) $(BIN)/python benchmarks/$$script.py || exit 1; done

claims: $(VENV)/.dev
	for id in $$($(BIN)/secateur methods --json | $(BIN)/python -c "import json,sys; print(*(m['id'] for m in json.load(sys.stdin)))"); do \
	  $(ONE_THREAD) $(BIN)/secateur claims run $$id --workers $(WORKERS) --again || exit 1; done

wheel: $(VENV)/.dev
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) dist build

$(VENV)/.torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt $(TORCH)
	touch $@

$(VENV)/.run: $(VENV)/.torch pyproject.toml
	$(PIP) -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) -c constraints.txt -e ".[dev]"
	touch $@
