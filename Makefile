# Every job of the project. `make` alone lists them; without make: `python -m btlib --help`.
PYTHON ?= python3
LESSON ?=
PROFILE ?=
LIMIT ?= 600
TORCH ?=
VENV := .venv
READY := $(VENV)/.ready
ifeq ($(OS),Windows_NT)
PY := $(VENV)/Scripts/python.exe
else
PY := $(VENV)/bin/python
endif

# Waiting threads give their core away; why: btlib/__init__.py.
export OMP_WAIT_POLICY ?= passive

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help .venv course site slides test lint format lab check checkpoints bench gpu browser-test nightly pins clean clean-all

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z.-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  LESSON=02 and PROFILE=fast|full|paper choose what 'make course' runs; PYTHON=python3.12 which Python;"
	@echo "  TORCH=cpu a PyTorch without GPU libraries, when .venv is made."

.venv: $(READY)  ## make the environment (minutes, once)

# The mark comes last, so a build that was stopped has none and is begun again from nothing. uv takes a fraction of
# pip's time (docs/anywhere.md); pip is asked where uv gets nothing, such as behind a mirror that only pip knows.
$(READY): pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "python: expected Python 3.11 or newer as '$(PYTHON)', got $$($(PYTHON) --version 2>&1 | head -n 1);" \
	    "install it, or name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@touch .writable 2>/dev/null && rm -f .writable || { \
	  echo "folder: expected one that can be written to, got $$(pwd), which can not (read-only, or a full disk);" \
	    "copy the repository to a place of your own" >&2; exit 1; }
	@test -e $@ || rm -rf $(VENV)
	@rm -f $@
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "venv: '$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@trap 'rm -rf $(VENV); exit 1' INT TERM HUP; \
	  { $(PY) -m pip install --disable-pip-version-check uv && VIRTUAL_ENV=$(VENV) \
	    $(PY) -m uv pip install $(if $(TORCH),--torch-backend $(TORCH)) -c constraints.txt -e '.[dev]'; } \
	  $(if $(TORCH),,|| $(PY) -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]') \
	  || { rm -rf $(VENV); echo "packages: not all could be installed, see above: the set-up needs a network once," \
	    "and 7 GB of disk" >&2; exit 1; }
	@touch $@

course: .venv  ## run the lessons, leave pages in build/site/; lesson 00's come first
	$(PY) -m btlib course $(if $(LESSON),--lesson $(LESSON)) $(if $(PROFILE),--profile $(PROFILE))

site: .venv  ## the pages in build/site/ again; runs only lessons that changed
	$(PY) -m btlib site

slides: .venv  ## a deck of slides of each lesson, in build/slides/
	$(PY) -m btlib slides $(if $(LESSON),--lesson $(LESSON))

test: .venv  ## everything CI runs: style, types, tests, lessons
	$(PY) -m btlib test

lint: .venv  ## only style and types
	$(PY) -m btlib test lint format types

format: .venv  ## put code and lessons into the house style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

lab: .venv  ## open your own copy of the lessons (my-lessons/) in JupyterLab
	$(PY) -m btlib lab

check: .venv  ## is this machine ready? one line per requirement
	$(PY) -m btlib check

checkpoints: .venv  ## train the networks in data/checkpoints/ again, from nothing
	$(PY) -m btlib checkpoints --force

bench: .venv  ## measure every timing anew (hours), and write docs/timings.md
	$(PY) benchmarks/all.py

gpu: .venv  ## all that wants a GPU: lessons, tests, timings, rows; LIMIT=600 seconds
	LIMIT=$(LIMIT) $(PY) -m btlib gpu

browser-test: .venv  ## in Chromium: site, slides, every lesson in JupyterLab; in a kernel: random orders
	$(PY) -m pytest tests/browser -m browser

nightly: .venv  ## an hour of kills, faults, hostile files, odd input, load, mutations; makes docs/reliability.md
	PYTHONPATH=tests:. $(PY) -m reliability.nightly

pins: .venv  ## write constraints.txt from what .venv holds now
	@head -n 2 constraints.txt > constraints.part
	@$(PY) -m pip freeze --all --exclude-editable --exclude pip \
	  | grep -viE '^(nvidia-|cuda-|triton)' | LC_ALL=C sort -f >> constraints.part
	@mv constraints.part constraints.txt

clean:  ## remove build/ and caches; keep .venv, data and trained networks
	@test ! -e $(READY) || $(PY) -m btlib clean

clean-all: clean  ## also remove .venv
	@rm -rf $(VENV)
