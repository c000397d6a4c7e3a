# make demo   from nothing: environment, the demo sweep, its report
# make test   from nothing: environment, lint, types, every test
PYTHON ?= $(shell command -v python3.12 || command -v python3.11 || command -v python3)
BIN := .venv/bin
SPEC ?= experiments/demo.toml
REPORT := experiments/reports/demo.ipynb

.PHONY: help install demo test check lock lab serve embedded-model

help:
	@echo "make demo            everything from nothing: a sweep of real portraits and its report"
	@echo "make test            lint, types and every test"
	@echo "make lab             JupyterLab on the notebooks"
	@echo "make serve           the promoted preset at http://127.0.0.1:7860"
	@echo "make lock            write requirements.lock anew from pyproject.toml"
	@echo "make embedded-model  train the embedded model again (about two hours on 2 cores)"

install: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
		|| { echo "The workbench needs Python 3.11 or 3.12; name one with: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet -r requirements.lock
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet --no-deps --editable .
	touch $@

demo: install
	$(BIN)/workbench sweep $(SPEC)
	$(BIN)/workbench notebook run notebooks/02_sweep.ipynb -p spec=$(SPEC) -o $(REPORT)
	@echo
	@echo "Report:  $(REPORT:.ipynb=.html)  (open it in a browser)"
	@echo "Next:    make lab     the notebooks in JupyterLab"
	@echo "         make serve   the promoted preset at http://127.0.0.1:7860/docs"
	@echo "         $(BIN)/workbench generate --preset production --seed 7 -o face.png"

test: install check
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

lock:
	test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet uv; }
	$(BIN)/uv pip compile --quiet --universal --no-emit-index-url --no-header --group dev pyproject.toml -o requirements.lock

lab: install
	$(BIN)/jupyter lab notebooks

serve: install
	$(BIN)/workbench serve

embedded-model: install
	$(BIN)/python experiments/embedded_model/make.py
