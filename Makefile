# The common tasks. Every target first makes .venv, once, and prints the command it runs.
#
#   make train                       train a GPT on the Python manual (3 to 7 minutes)
#   make train ARGS="--preset tiny"  with other settings
#   make test                        the test suite
#   make finetune                    a spam filter and an assistant from that GPT, with scores
#   make finetune SPAM=FILE INSTRUCTIONS=FILE        the same on real data
#   make test-triton36               the compiled kernels once more, with the oldest Triton allowed
#   make lint  make bench  make docs
#   make release                     build and check what is uploaded to a package index

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3.10 python3.14 python3; do \
	if command -v $$p >/dev/null 2>&1 && $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; \
	then echo $$p; break; fi; done)
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: train test test-triton36 finetune lint bench docs release clean help

help:
	@sed -n 's/^#   //p' Makefile

train: $(VENV)/train
	$(BIN)/python examples/train_gpt.py $(RESUME) $(ARGS)

# A run that was stopped goes on, unless the flags say that there is nothing to go on with.
RESUME = $(if $(filter --overwrite --find-lr --resume,$(ARGS)),,--resume)

finetune: $(VENV)/train
	test -e runs/pydoc-bpe/best || $(BIN)/python examples/train_gpt.py --resume
	$(BIN)/python examples/finetune_spam.py $(if $(SPAM),--data $(SPAM))
	$(BIN)/python examples/finetune_instructions.py $(if $(INSTRUCTIONS),--data $(INSTRUCTIONS))

test: $(VENV)/dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 $(ARGS)

# Machine code is the compiler's work: what holds for the newest Triton need not for the oldest.
OLDEST := $(VENV)/triton-3.6.0
test-triton36: $(OLDEST)/ready
	$(OLDEST)/bin/python -m pytest tests/kernels/test_real_step.py tests/kernels/test_machine_code.py \
		tests/kernels/test_compiling.py -k "not compiling or (default_configuration and 90)" $(ARGS)

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/bench
	$(BIN)/python benchmarks/bench_train.py $(ARGS)

docs: $(VENV)/docs
	$(BIN)/mkdocs build --strict $(ARGS)

release: $(VENV)/release
	$(BIN)/python .ci/release.py

# Each of these files marks that the environment holds what a target needs.
$(VENV)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "make: Python 3.10 or newer with its venv module is needed and was not found."; \
		echo "  Debian, Ubuntu: sudo apt install python3 python3-venv"; \
		echo "  Fedora:         sudo dnf install python3"; \
		echo "  macOS:          brew install python"; \
		echo "  or name one:    make train PYTHON=/path/to/python3"; \
		exit 1; fi
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/train: $(VENV)/python setup.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[plot]'
	@touch $@

$(VENV)/dev $(VENV)/bench $(VENV)/docs $(VENV)/release: $(VENV)/%: $(VENV)/python setup.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[plot,$*]'
	@touch $@

$(OLDEST)/ready: $(VENV)/python setup.py
	$(BIN)/python -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check \
		triton==3.6.0 numpy ml_dtypes pytest hypothesis
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
