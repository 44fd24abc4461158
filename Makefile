# Everything runs in the virtual environment .venv, which is made when first needed. `make help` lists what there is.
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu   PyTorch's CPU build, much smaller than the one for GPUs
#   make test JOBS=4                                             processes that share the tests

VENV := .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2
TORCH_INDEX ?=
PIP = $(RUN)/python -m pip --disable-pip-version-check

# the first Python that is new enough, those that can make environments before those that cannot
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for code in '$(NEW_ENOUGH); import ensurepip' '$(NEW_ENOUGH)'; do \
	for python in python3.13 python3.12 python3.11 python3; do \
		if $$python -c "$$(echo "$$code" | sed 's/sys.exit(\(.*\));/assert not \1;/')" 2>/dev/null; then echo $$python; exit; fi; \
	done; done)

.PHONY: help demo test lint extras build clean
help:
	@echo "make demo    compose a GAN, train it on handwritten digits, look at what it learnt (about five minutes)"
	@echo "make test    run the default tests"
	@echo "make lint    check style and types"
	@echo "make extras  add natten and xformers, faster attention where they can be built"
	@echo "make build   make a wheel and a source distribution in dist/"
	@echo "make clean   remove what was built; the environment stays"
