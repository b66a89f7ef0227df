# Two commands: `make demo` does the whole job on real recordings, `make test` runs every check.
# PYTHON     the interpreter to build .venv with (3.10 to 3.13)
# TORCH_ARGS more arguments for installing PyTorch, for instance the index of its CPU builds
# CELL       cfc or ltc, for the demo

PYTHON ?= python3
TORCH_ARGS ?=
CELL ?= cfc
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: demo test lint types unit bench mutations clean

demo: .venv/ready
	$(BIN)/python examples/imu_activity.py --cell $(CELL) --output build/demo-$(CELL)

test: lint types unit

lint: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready-dev
	$(BIN)/mypy

unit: .venv/ready-dev
	$(BIN)/python -m pytest -n 2

bench: .venv/ready
	$(BIN)/python benchmarks/step_overhead.py

# Small faults in a copy of the source, each of which a test must notice; too long for `make test`.
mutations: .venv/ready-dev
	$(BIN)/python tests/support/mutations.py --jobs 2

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "lnn-edge needs Python 3.10 to 3.13. Type: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) install $(TORCH_ARGS) "$$(grep '^torch==' constraints.txt)"
	$(PIP) install -c constraints.txt -e '.[export]'
	touch $@

# NVIDIA's bindings have no wheel for some machines; the one test that looks at them says so there.
.venv/ready-dev: .venv/ready
	$(PIP) install -c constraints.txt 'build>=1.2' 'cuda-bindings>=13' 'gymnasium[mujoco]' 'hatchling>=1.26' \
		hypothesis ipykernel matplotlib mypy nbclient nvidia-cuda-runtime onnxscript pandas pytest pytest-timeout \
		pytest-xdist ruff scikit-learn
	$(PIP) install --no-deps 'nvidia-cuda-nvcc>=13'
	-$(PIP) install --no-deps 'tensorrt-cu13-bindings==11.4.0.106'
	touch $@

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
