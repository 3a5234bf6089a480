# Two commands are all a reader needs: `make lab` and `make test`. Each sets up what is missing, once.
# Plain make, as old as the 3.81 that macOS carries.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
SITE   := $(VENV)/.installed-docs
# Passed on as they are: `make test ARGS="-k losses -x"`, `make lab ARGS=--no-browser`.
ARGS   ?=
# Two files of tests at a time, each with half of the cores; `make test SPREAD=` runs them one by one.
SPREAD ?= -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup lab demo test test-notebooks test-lab test-colab test-lowest test-latest notebooks badges docs slides bundle test-bundle bench lint format types clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## make .venv with the tested set of packages

# A .venv that is already there is kept, so that a CPU build of torch installed into it beforehand stays.
$(STAMP): requirements.txt requirements-dev.txt pyproject.toml
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "xlt_tutorial needs Python 3.11 or newer, and '$(PYTHON)' is: `$(PYTHON) --version 2>&1`"; \
	    echo "Install a newer Python, then name it: make setup PYTHON=python3.11"; exit 1; }; \
	  echo "$(PYTHON) -m venv $(VENV)"; \
	  $(PYTHON) -m venv $(VENV) || { \
	    echo "Could not make $(VENV). On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }; }
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

lab: $(STAMP) ## open the course in JupyterLab
	$(BIN)/jupyter lab --ServerApp.ip=127.0.0.1 --ServerApp.root_dir=. --LabApp.app_settings_dir=binder/jupyterlab $(ARGS) notebooks/00_start_here.ipynb

demo: $(STAMP) ## train, measure and show, in the terminal: writes runs/demo
	$(BIN)/python -m xlt_tutorial demo $(ARGS)

test: $(STAMP) ## run the tests (no notebooks)
	$(BIN)/python -m pytest $(SPREAD) $(ARGS)

# pytest exits with 5 where it finds no test: a failure, unless there is no notebook yet.
test-notebooks: $(STAMP) ## run every notebook once from its source
	$(BIN)/python -m pytest -m notebooks $(ARGS) || { \
	  code=$$?; test $$code -eq 5 && ! ls notebooks/src/*.py >/dev/null 2>&1 && echo "No notebooks yet."; }

test-lab: $(STAMP) ## open every notebook in JupyterLab and run it from the menu
	$(BIN)/python -m pytest -m lab $(ARGS)

# The tests with other versions than the tested ones, in environments under .venvs; TORCH=torch==2.11.0 asks for another torch.
# Left out are the tests of the tested set itself, and those of JupyterLab, which is not in these environments.
test-colab: $(STAMP) ## run the tests with the versions that Colab preloads
test-lowest: $(STAMP) ## run the tests with the lowest versions of the ranges
test-latest: $(STAMP) ## run the tests with the latest versions of the ranges
test-colab test-lowest test-latest:
	TORCH="$(TORCH)" $(BIN)/python tools/environments.py $(@:test-%=%)
	.venvs/$(@:test-%=%)/bin/python -m pytest -m "not notebooks and not browser" --ignore=tests/test_packaging.py $(SPREAD) $(ARGS)

notebooks: $(STAMP) ## execute the sources and publish the notebooks
	$(BIN)/python tools/publish.py $(ARGS)
	$(BIN)/python tools/contents.py
	$(BIN)/python tools/front.py

badges: $(STAMP) ## say where the course lives: make badges REPO=owner/name TAG=v0.1.0
	$(BIN)/python tools/badges.py $(if $(REPO),--repo $(REPO)) $(if $(TAG),--tag $(TAG)) $(ARGS)

# What builds the site is no part of `make setup`: it comes with the first of these two targets.
$(SITE): $(STAMP) requirements-docs.txt
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-docs.txt
	@touch $(SITE)

docs: $(SITE) ## build the site of the course and the package: docs/_build/html/index.html
	$(BIN)/python -m sphinx -W --keep-going docs docs/_build/html $(ARGS)

slides: $(SITE) ## make slides from the published notebooks: docs/_build/slides
	$(BIN)/python tools/slides.py $(ARGS)

bundle: $(STAMP) ## one archive for machines without a network: writes dist
	$(BIN)/python tools/bundle.py $(ARGS)

test-bundle: bundle ## install that archive where there is no network, and run a notebook
	XLT_BUNDLE=`ls -t dist/*.tar | head -n 1` $(BIN)/python -m pytest -s -k whole_course tests/test_bundle.py

bench: $(STAMP) ## measure speed and memory: writes benchmarks/results and docs/performance.md
	$(BIN)/python -m benchmarks $(ARGS)

lint: $(STAMP) ## check the style of code and notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## mend what `make lint` can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP) ## check the package's types
	$(BIN)/mypy

clean: ## remove .venv, caches and build leftovers; runs/ stays
	rm -rf $(VENV) .venvs build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache \
	  docs/_build docs/notebooks docs/api/generated
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -type d -prune -exec rm -rf {} +
