# Every target sets up .venv by itself; this needs python3 (3.11 or newer, with
# venv and pip), make and a package index, and is quick when .venv is there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests spend most of their time tracing, on one core: use two.
PYTEST := $(BIN)/python -m pytest --numprocesses=2 --dist=worksteal

# What is asked of PyTorch: attacks, and models and data in every form. Most of
# the other tests are of what is compiled.
TORCH_TESTS := tests/test_noise.py tests/test_norms.py tests/attacks \
	tests/evaluation/test_forms_of_models.py \
	tests/evaluation/test_forms_of_outputs.py \
	tests/evaluation/test_forms_of_data.py tests/defenses/test_saving.py

# Extra arguments: make test ARGS="-k simplex", make demo ARGS="--epochs=3".
ARGS ?=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo results test test-tensorflow test-jax test-torch slow lint \
	format clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 18

demo: $(VENV)/.examples ## train and evaluate the paper's MNIST network
	@$(BIN)/python examples/mnist_small_cnn.py --dataset=mnist5k --epochs=8 \
		--output_dir=runs/demo $(ARGS)

results: $(VENV)/.examples ## the tables and figures of results/, from their JSON
	@$(BIN)/python -m keras_wp.experiments render $(ARGS)

test: $(VENV)/.dev ## the test suite, on TensorFlow and then on JAX
	@$(MAKE) --no-print-directory --keep-going test-tensorflow test-jax

test-tensorflow: $(VENV)/.dev ## the test suite on TensorFlow
	KERAS_BACKEND=tensorflow $(PYTEST) $(ARGS)

test-jax: $(VENV)/.dev ## the test suite on JAX
	KERAS_BACKEND=jax $(PYTEST) -m "not slow and not once" $(ARGS)

test-torch: .venv-torch/.dev ## attacks and forms of models on PyTorch, in .venv-torch
	KERAS_BACKEND=torch .venv-torch/bin/python -m pytest --numprocesses=2 \
		--dist=worksteal -m "not slow and not once" $(TORCH_TESTS) $(ARGS)

slow: $(VENV)/.dev ## the tests that take more than a minute, on TensorFlow
	KERAS_BACKEND=tensorflow $(PYTEST) -m slow $(ARGS)

lint: $(VENV)/.dev ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(VENV)/.dev ## put the code into the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove .venv and the recorded runs of the demo
	rm -rf $(VENV) .venv-torch runs/demo

# The stamps: .examples is what the demo needs, .dev is everything.
$(VENV)/.examples: setup.cfg pyproject.toml
	$(call install,examples)

$(VENV)/.dev: setup.cfg pyproject.toml
	$(call install,dev)

# PyTorch is larger still, and not needed for anything else.
.venv-torch/.dev: setup.cfg pyproject.toml
	$(call install,test$(comma)torch,.venv-torch)

comma := ,

# The second argument is the environment, if not the usual one.
define install
@echo "Setting up $(or $(2),$(VENV)) (TensorFlow is large: this takes a minute or two, once) ..."
@$(PYTHON) -m venv $(or $(2),$(VENV))
@$(or $(2),$(VENV))/bin/python -m pip install -qq --disable-pip-version-check --editable '.[$(1)]'
@touch $@
endef
