# The two commands of the README. Each creates .venv, installs the package and does its job on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: benchmark test lint format install clean

benchmark: $(STAMP)
	$(BIN)/smix-pz study matrix_game --out results/matrix_game
	$(BIN)/smix-pz study smac_3m --out results/smac_3m

test: $(STAMP) lint
	$(BIN)/pytest -n 2 --dist loadscope

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(STAMP)

# pysc2 without what it asks for: see pyproject.toml. The stamp is written last, so an interrupted installation is taken
# up again by the next call.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --no-deps pysc2==4.0.0
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info
