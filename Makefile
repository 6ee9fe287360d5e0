# The targets name their own help: `## words` behind a target is what `make help` prints.
.DEFAULT_GOAL := help
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help setup quickstart test test-slow test-gpu rehearse bench lint types format clean

help:  ## print this help
	@awk 'BEGIN {FS = ":.*## *"} /^[a-z-]+:.*## / {printf "  \033[1m%-11s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev,sweep,slurm,dashboard,tensorboard,milvus,brain,adapters]" --constraint constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps sweeps==0.3.0  # W&B's check of sweep files; it pins an old NumPy
	touch $@

setup: $(INSTALLED)  ## make .venv and install the package with the tested versions

quickstart: setup  ## one hour of brain data to a table of scores and a report, on a simulated world
	$(BIN)/python -m mindeye_pl +experiment=finetune_subj01_1h

test: setup  ## the default tests, some six minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test-slow: setup  ## the slow tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m slow

test-gpu: setup  ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

rehearse: setup  ## every command at full size with random weights: hours, 60 GB of disk in WORK
	$(BIN)/python benchmarks/rehearsal $(or $(WORK),outputs/rehearsal)

bench: setup  ## speed as ratios to plain loops and to the floor; OUT=FOLDER for JSON, DEVICE=cuda
	for name in start_up embedding evaluation reconstruction training_step; do \
		$(BIN)/python benchmarks/$$name.py --device $(or $(DEVICE),cpu) --output $(or $(OUT),outputs/bench)/$$name.json || exit 1; \
	done
	$(BIN)/python benchmarks/memory.py --output $(or $(OUT),outputs/bench)/memory.json

lint: setup  ## style
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup  ## types
	$(BIN)/mypy

format: setup  ## put the style right
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

clean:  ## remove caches and results, but not the environment
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find outputs -mindepth 1 ! -name .gitkeep -delete
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -r {} +
