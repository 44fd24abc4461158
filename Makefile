# Everything runs in the virtual environment .venv, which is made when it is first needed; `make help` lists what there is.
# On the command line one may choose
#   TORCH_INDEX=https://download.pytorch.org/whl/cpu   where PyTorch comes from; this is the CPU build, far smaller
#   JOBS=4                                             how many processes share the tests
#   GPU_JOBS=12                                        how many processes share the GPU in its tests
#   PYTHON=python3.12                                  what makes the environment

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2
GPU_JOBS ?= 12
NEW_ENOUGH := import sys; assert sys.version_info >= (3, 11)
CAN_MAKE_VENV := $(NEW_ENOUGH); import ensurepip, venv
first_python = $(shell for name in python3.13 python3.12 python3.11 python3; do \
	if $$name -c '$(1)' 2> /dev/null; then echo $$name; break; fi; done)
PYTHON ?= $(or $(call first_python,$(CAN_MAKE_VENV)),$(call first_python,$(NEW_ENOUGH)),python3)
# bytecode is written wherever the environment says not to: each process would compile the rewritten assertions again
TEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test slow-test gpu-test gpu-bench lint docs extras build clean

help:
	@echo "make demo    compose a GAN, train it on handwritten digits and look at what it learnt: under ten minutes"
	@echo "make test    run the default tests"
	@echo "make slow-test  run the slow tests"
	@echo "make gpu-test  run the tests that need or can use a CUDA device there"
	@echo "make gpu-bench  measure kernels and whole models on a CUDA device, in six minutes"
	@echo "make lint    check style and types"
	@echo "make docs    write the documentation as a site to site/"
	@echo "make extras  add natten and xformers, faster attention, where they can be built"
	@echo "make build   make a wheel and a source distribution in dist/"
	@echo "make clean   remove what was built; the environment stays"

demo: $(STAMP)
	@echo "== Training a custom GAN; pictures and score go into a folder of runs/"
	@$(BIN)/python examples/build_custom_gan.py --out runs/custom-gan-$$(date +%Y%m%d-%H%M%S)

test: $(STAMP)
	@echo "== Running the default tests in $(JOBS) processes"
	@$(TEST) "not slow" --dist worksteal -n $(JOBS)

slow-test: $(STAMP)
	@echo "== Running the slow tests"
	@$(TEST) slow --dist worksteal -n $(JOBS)

gpu-test: $(STAMP)
	@echo "== Running the tests that need or can use a GPU there, in $(GPU_JOBS) processes"
	@if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
		OMP_NUM_THREADS=1 TORCHINDUCTOR_COMPILE_THREADS=1 $(BIN)/python -m pytest -q -m "gpu and not slow" \
			--device cuda --dist worksteal -n $(GPU_JOBS); \
	else echo "-- skipped: torch finds no CUDA device here"; fi

gpu-bench: $(STAMP)
	@echo "== Measuring on the GPU; results go into benchmarks/results"
	@$(BIN)/python -m benchmarks.gpu

lint: $(STAMP)
	@echo "== Checking style and types"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: $(STAMP)
	@echo "== Writing the documentation to site/"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# natten's build looks for the torch that is installed, which build isolation would hide from it
extras: $(STAMP)
	@echo "== Adding what this machine can have of natten and xformers"
	@$(PIP_INSTALL) xformers || echo "-- xformers cannot be installed here; everything works without it"
	@$(PIP_INSTALL) cmake ninja && $(PIP_INSTALL) --no-build-isolation natten \
		|| echo "-- natten cannot be installed here; everything works without it"
	@$(BIN)/ganblocks doctor

build: $(STAMP)
	@echo "== Building a wheel and a source distribution in dist/"
	@rm -rf build dist site
	@$(BIN)/python -m build --no-isolation

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "== Installing PyTorch, then ganblocks and what it needs, into $(VENV); this takes a few minutes"
	@$(PIP_INSTALL) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch torchvision
	@$(PIP_INSTALL) --editable ".[dev]"
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c '$(NEW_ENOUGH)' 2> /dev/null || { \
		echo "ganblocks needs Python 3.11 or newer, and there is none here: sudo apt install python3 python3-venv"; \
		echo "(or name one: make PYTHON=/path/to/python3.12)"; exit 1; }
	@$(PYTHON) -c '$(CAN_MAKE_VENV)' 2> /dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: sudo apt install $$($(PYTHON) -c \
		'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"; exit 1; }
	@echo "== Making the environment $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV)
