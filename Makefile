# make demo · make test · make check: each works on a fresh clone, without root.
#
#   PYTHON       the interpreter that .venv is made with (3.11 or later)
#   TORCH_INDEX  an extra package index; PyTorch's CPU-only builds are at https://download.pytorch.org/whl/cpu,
#                and save gigabytes of GPU libraries that nothing here uses
#   MINUTES      how long `make soak` works and kills; SEED: of what it kills, to see a run's kills again

PYTHON ?= python3
TORCH_INDEX ?=
MINUTES ?= 5
SEED ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ASSETS := examples/assets
QUANTFLEET := $(BIN)/quantfleet

.PHONY: help demo assets test test-quick faults soak check format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo        train a small classifier, measure it under several strategies, print the comparison"
	@echo "make test        the whole test suite (make test-quick: without the slow ones)"
	@echo "make faults      the fault suite, the long ones too: about half an hour"
	@echo "make soak        5 minutes of work under random kills: leaks, lost and doubled results (MINUTES=120 for two hours)"
	@echo "make check       ruff, mypy and the import rules"
	@echo "make format      let ruff format and mend what it can"
	@echo "make clean       remove .venv and everything that was made"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "quantfleet needs Python 3.11 or later: make PYTHON=python3.11 …"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing pinned versions into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
		--constraint constraints.txt --editable '.[all,dev]'
	@touch $@

demo: assets
	@$(QUANTFLEET) run examples/demo.yaml --database $(ASSETS)/demo.db

assets: $(READY)
	@test -f $(ASSETS)/intents/test.parquet || $(BIN)/python examples/make_intents.py $(ASSETS)/intents
	@$(QUANTFLEET) model train --dataset $(ASSETS)/intents/train.parquet \
		--validation $(ASSETS)/intents/validation.parquet --test $(ASSETS)/intents/test.parquet \
		--label intent --output $(ASSETS)/intents-model

test: $(READY)
	@$(BIN)/python -m pytest -n 2 --dist worksteal

test-quick: $(READY)
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow and not faults'

faults: $(READY)
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m '' tests/faults tests/acceptance \
		tests/integration/storage/test_lifecycle_machine.py tests/integration/scheduler/test_run_command.py

soak: $(READY)
	@$(BIN)/python -m tests.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

check: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(READY)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(ASSETS) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
