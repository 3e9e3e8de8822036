# make train    set up .venv and train on the generated default graph, 2 ranks on this machine
# make test     set up .venv and run the default tests
# make check    formatting, lint and types
# make slow     the tests that take longer than half a minute each
#
# TORCH chooses the PyTorch build; one that .venv has already is kept. For example:
#   make train TORCH="torch --index-url https://download.pytorch.org/whl/cu126"
PYTHON ?= python3
TORCH ?= torch==2.13.0
# llama.cpp is built from source: without its image models, and for any CPU with AVX2.
export CMAKE_ARGS ?= -DLLAVA_BUILD=OFF -DGGML_NATIVE=OFF -DGGML_AVX2=ON
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: train test check slow clean

train: $(VENV)/ready
	$(RUN) -m minidist.train

test: $(VENV)/ready
	$(RUN) -m pytest -m "not slow"

slow: $(VENV)/ready
	$(RUN) -m pytest -m slow

check: $(VENV)/ready
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

# torch goes first: a range that an installed build satisfies brings no other build.
$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -c "import torch" 2>/dev/null || $(RUN) -m pip install -q $(TORCH)
	$(RUN) -m pip install -q -e ".[mpi,ogb,classifiers,dev]"
	touch $@

clean:
	rm -rf $(VENV)
