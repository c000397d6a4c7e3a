# make demo   from nothing: environment, the demo sweep, its report
# make test   from nothing: environment, lint, types, every test
# the first that runs, is 3.11 or 3.12, and has venv (a pyenv shim may be there and not run)
IN_RANGE := sys.exit(not (3, 11) <= sys.version_info < (3, 13))
USABLE := import sys, venv, ensurepip; $(IN_RANGE)
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do $$p -c '$(USABLE)' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
SPEC ?= experiments/demo.toml
REPORT := experiments/reports/demo.ipynb

# Where it is set, no process keeps what it has compiled, and each compiles diffusers anew: 21 s of imports instead of 6
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install demo test pytest check lock lab serve bench-score bench-sweep embedded-model score-network

help:
	@echo "make demo            everything from nothing: a sweep of real portraits and its report"
	@echo "make test            lint, types and every test"
	@echo "make lab             JupyterLab on the notebooks"
	@echo "make serve           the promoted preset at http://127.0.0.1:7860"
	@echo "make lock            write requirements.lock anew from pyproject.toml"
	@echo "make bench-score     the face score against the classic ones (ARGS='--quick', or pictures)"
	@echo "make bench-sweep     the sweep engine against a plain loop, kills and its own minimum (ARGS='--quick')"
	@echo "make embedded-model  train the embedded model again (hours on a CPU; never timed as a whole)"
	@echo "make score-network   train the network of the face score again (half an hour; never timed as a whole)"

# A .venv from before a card or its driver was changed has a torch that cannot use it
install: .venv/.installed
	@! command -v nvidia-smi >/dev/null || $(call BESIDE_DOTS,$(BIN)/python -I workbench/models/driver.py --mend)

.venv/.installed: requirements.lock pyproject.toml
	@test ! -x $(BIN)/python || $(BIN)/python -c 'import sys; $(IN_RANGE)' || { echo "$(NOT_OURS)"; exit 1; }
	@echo "Installing the pinned dependencies into .venv (a minute, or a few without a package cache) ..."
	@test -x $(BIN)/python || $(call BESIDE_DOTS,$(if $(PYTHON),$(PYTHON) -m venv .venv,$(BRING_PYTHON)))
	@$(call BESIDE_DOTS,$(BIN)/python -m pip install --quiet --disable-pip-version-check uv)
	@$(call BESIDE_DOTS,$(BIN)/python -I workbench/models/driver.py)
	@$(call BESIDE_DOTS,VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet --no-deps --editable .)
	@echo
	touch $@

NOT_OURS := The Python in .venv is not 3.11 or 3.12, which the workbench needs, or does not run: delete .venv, then run make install.

# Where Python is 3.13 or newer, uv brings 3.12; uv itself is on the path, or comes into a folder for the moment
BRING_PYTHON = folder=$$(mktemp -d); uv=$$(command -v uv) || for p in python3 $(NEWER); do \
	uv=$$folder/bin/uv; $$p -m venv $$folder 2>/dev/null >&2 && $$folder/bin/python -m pip install --quiet uv && break; uv=; done; \
	if test -n "$$uv"; then echo "No Python 3.11 or 3.12 is here: uv brings 3.12"; $$uv venv --quiet --python 3.12 --seed --allow-existing .venv; \
	else echo "The workbench needs Python 3.11 or 3.12 with venv; name one with: make install PYTHON=..."; false; fi; \
	status=$$?; rm -rf $$folder; (exit $$status)
NEWER := python3.15 python3.14 python3.13

# run a command, with a dot every two seconds
BESIDE_DOTS = { ( while sleep 2; do printf .; done ) & dots=$$!; $(1); status=$$?; kill $$dots; wait $$dots 2>/dev/null; exit $$status; }

# without Real-ESRGAN, which takes three minutes for one picture on a CPU
demo: install
	$(BIN)/workbench sweep $(SPEC) --workers 2
	$(BIN)/workbench notebook run notebooks/02_sweep.ipynb -p spec=$(SPEC) -p upscaler=none -p duel_seeds=4 -o $(REPORT)
	@echo
	@echo "Report:  $(REPORT:.ipynb=.html)  (open it in a browser; at its end the duel of the winner with the preset embedded)"
	@echo "Next:    make lab     the notebooks in JupyterLab"
	@echo "         make serve   production at http://127.0.0.1:7860/docs, if the winner was promoted"
	@echo "         $(BIN)/workbench serve --preset embedded   otherwise"
	@echo "         $(BIN)/workbench promote latest --plan   more seeds, until it is decided"
	@echo "         $(BIN)/workbench generate --preset embedded --seed 7 -o face.png"
	@echo "         $(BIN)/workbench generate --preset embedded --set upscaler=realesrgan-x4plus -o large.png   (3 minutes)"

# JOBS tests at a time, each on one thread; those that measure time run by themselves, afterwards, from the files that have
# any: to import them all takes 15 s more
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest

# pyright takes a minute of one core: it runs beside the tests, which leave some of two idle
test: install
	@$(MAKE) --no-print-directory -j 2 check pytest

pytest: install
	$(PYTEST) -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not alone"
	$(PYTEST) -m alone $$(grep -rl --include='test_*.py' 'mark\.alone' tests)

# no cache: it kept a verdict on imports from before an __init__.py appeared beside the file
check: install
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache

lock:
	test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet uv; }
	$(BIN)/uv pip compile --quiet --universal --no-emit-index-url --no-header pyproject.toml --group dev -o requirements.lock

lab: install
	$(BIN)/jupyter lab notebooks

serve: install
	$(BIN)/workbench serve

bench-score bench-sweep: install
	@$(BIN)/python -m experiments.benchmarks $(@:bench-%=%) $(ARGS)

embedded-model: install
	$(BIN)/python experiments/embedded_model/make.py

score-network: install
	$(BIN)/python experiments/sharpness/make.py
