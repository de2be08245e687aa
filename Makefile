# make train | test | study | bench | lint | types | setup | clean
# Everything is installed into $(VENV) once; later runs find its stamp and start at once.

STACK  ?= cpu
VENV   ?= .venv
PYTHON ?= python3.11
UNITS  := $(if $(filter gpu,$(STACK)),nvidia-smi -L | grep -c ^GPU,nproc)
RANKS  ?= $(shell n=$$($(UNITS)); echo $$((n == 1 ? 1 : 2)))
ARGS   ?=

BIN    := $(VENV)/bin
LOCK   := locks/$(STACK).txt
SOURCES_OF_SETUP := $(LOCK) pyproject.toml CMakeLists.txt $(wildcard kernels/csrc/*.* kernels/csrc/cuda/*.*)
STAMP  := $(VENV)/.ready-$(shell { cat $(SOURCES_OF_SETUP); command -v cmake c++ nvcc; } | cksum | cut -d' ' -f1)

.PHONY: setup train test study bench lint types clean

setup: $(STAMP)

# $(VENV).incomplete marks a set-up that was interrupted: such an environment cannot be trusted and is made anew.
# So is one of another stack, whose vLLM lies in the same folder. An environment of somebody else is left alone.
$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	  echo "error: $(PYTHON) is not a Python 3.11; install one or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@if [ -n "$$(ls -A $(VENV) 2>/dev/null)" ] && [ ! -e $(VENV).incomplete ] && ! ls $(VENV)/.stack-* >/dev/null 2>&1; then \
	  echo "error: $(VENV) was not made by make setup; remove it or name another: make VENV=/some/folder" >&2; exit 1; fi
	@echo "set-up: $$(grep -c == $(LOCK)) packages of $(LOCK) into $(VENV); the first time takes a few minutes"
	@mkdir -p $(VENV)
	@if [ ! -e $(VENV)/.stack-$(STACK) ] || [ -e $(VENV).incomplete ]; then \
	  touch $(VENV).incomplete && $(PYTHON) -m venv --clear $(VENV) && touch $(VENV)/.stack-$(STACK); fi
	@touch $(VENV).incomplete
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps -r $(LOCK)
	@rm $(VENV).incomplete
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.ready-*
	@find $(VENV)/lib -name 'libsrpo_native.so' | grep -q . && echo "set-up: native library built" || \
	  echo "set-up: native library NOT built (needs cmake and a C++ compiler); its slower PyTorch twins are used"
	@if command -v nvcc >/dev/null; then find $(VENV)/lib -name 'libsrpo_cuda.so' | grep -q . && \
	  echo "set-up: CUDA library built" || \
	  echo "set-up: CUDA library NOT built (nvcc failed); training does without it"; fi
	@touch $@

train: setup
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/srpo train --ranks $(RANKS) $(ARGS)

test: setup lint
	$(BIN)/python -m pytest -n $(RANKS) --dist loadfile $(ARGS)

study: setup
	$(BIN)/python -m benchmarks.study $(ARGS)

bench: setup
	$(BIN)/srpo bench ops $(ARGS)

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo

# pyright runs on node, which `make test` must not need
types: setup
	@command -v node >/dev/null || { echo "error: pyright needs node on the PATH" >&2; exit 1; }
	$(BIN)/pyright

clean:
	rm -rf build .benchmarks .hypothesis .import_linter_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -type d -prune -exec rm -rf {} +
