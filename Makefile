# Two commands: `make demo` does the whole job on real recordings, `make test` runs every check.
# PYTHON     the interpreter to build .venv with (3.10 to 3.13)
# TORCH_ARGS more arguments for installing PyTorch, for instance the index of its CPU builds
# CELL       cfc or ltc, for the demo
# HOSTILE    arguments for `make test-hostile`, fewer cases for instance: --mutations 2400 --nodes 1200 --kills 60 --recorders 20

PYTHON ?= python3
TORCH_ARGS ?=
CELL ?= cfc
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

# uv installs in a fifth of pip's time, but reads none of pip's settings: where it fails, pip does it.
install = $(BIN)/uv pip install -q --python $(1) $(2) || $(PIP) --python $(1) install $(2)

.PHONY: demo test lint types unit test-avx512 test-hostile device-lowest device-newest build/bundles build/wheel build/pure wheels bench \
	bench-peers mutations runtimes rerun clean

demo: .venv/ready
	$(BIN)/python examples/imu_activity.py --cell $(CELL) --output build/demo-$(CELL)

test: lint types unit

lint: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready-dev
	$(BIN)/mypy

# One process more than there are cores: tests also wait, for programs and for what another one makes for all.
unit: .venv/ready-dev
	$(BIN)/python -m pytest --forks 3

# The device half alone, on the Python of JetPack 6, with the lowest versions that pyproject.toml allows (of onnxruntime that
# is the newest for this Python as well) and nothing of the workstation installed: what needs no export, on bundles that a
# workstation made before and on those that older versions made.
PYTHON310 ?= PYENV_VERSION=3.10 python3.10
PYTHON313 ?= PYENV_VERSION=3.13 python3.13
DEVICE_TESTS := tests/runtime/test_old_bundles.py tests/runtime/test_loading.py tests/runtime/transport \
	tests/runtime/measure tests/runtime/figures tests/runtime/loop tests/runtime/guard tests/runtime/record \
	tests/files/test_writing.py tests/files/test_staging.py tests/bundle/test_disk.py \
	tests/machine tests/runtime/test_time_types.py tests/runtime/test_states.py tests/runtime/test_wrong_arguments.py tests/runtime/compiled tests/runtime/native/test_native.py \
	$(addprefix tests/cli/test_,run.py run_gaps.py run_hold.py run_lines.py run_times.py run_signals.py run_resume.py run_resume_loop.py run_resume_live.py run_loop.py feeding.py replay.py signals.py verify.py bench.py \
	inspect.py doctor.py usage.py os_errors.py paths.py closed_streams.py)
LOWEST = $(shell sed -n '/^dependencies = \[/,/^\]/s/^ *"\(.*\)>=\(.*\)",.*/\1==\2/p' pyproject.toml)

device-lowest: build/bundles build/wheel
	$(call installed,$(PYTHON310),build/$@,build/wheel/*.whl $(LOWEST) hypothesis mcap-protobuf-support pytest pytest-timeout)
	! build/$@/bin/python -c "import torch" 2>/dev/null
	$(again) build/$@/bin/python -m pytest $(DEVICE_TESTS) $(ONCE:%=--deselect %)

# Properties are tried with fewer examples than in `make unit`, and some tests with fewer cases: tests/support/properties.py.
again = LNN_EDGE_TEST_AGAIN=true LNN_EDGE_TEST_BUNDLES="$(CURDIR)/build/bundles"

# Twenty and fifty kills, a disk that is full, and several processes for what one does: of no version, once in `make unit`.
ONCE := tests/cli/test_run_resume.py::test_killed_at_any_moment tests/runtime/record/test_killed.py::test_what_a_kill_leaves \
	tests/bundle/test_disk.py::test_fifty_kills_lose_nothing tests/cli/test_replay.py::test_several_go_through_processes \
	tests/cli/test_run_resume_loop.py::test_results_that_a_full_disk_lost_are_written_by_the_next_run \
	tests/runtime/native/test_native.py::test_two_processes_at_once

# Both kinds of wheel on the newest Python, away from the sources: with the extension, and calling C through ctypes.
device-newest: build/bundles build/wheel build/pure
	$(call installed,$(PYTHON313),build/$@,build/wheel/*.whl hypothesis pytest pytest-timeout)
	$(call on_newest,tests/runtime/compiled -k "not sanitizers") # which watch C, with this NumPy and the lowest, elsewhere
	$(call install,build/$@,--no-deps --force-reinstall build/pure/*.whl)
	$(call on_newest,tests/runtime/native/test_native.py -k "older or finite or second_load")

on_newest = PYTHONSAFEPATH=1 $(again) build/$@/bin/python -m pytest $(1)

build/wheel: .venv/ready-dev
	rm -rf $@
	LNN_EDGE_EXTENSION=require $(PIP) wheel --no-deps --no-build-isolation -w $@ .

build/pure: .venv/ready-dev
	rm -rf $@
	LNN_EDGE_EXTENSION=no $(PIP) wheel --no-deps --no-build-isolation -w $@ .

# All kinds: with the extension for this machine and for aarch64, which is tested under an emulator, and without it.
wheels: build/bundles build/wheel build/pure
	tests/support/aarch64.sh build/aarch64 $(BIN)/python build/bundles
	ls build/wheel build/pure

define installed
	$(1) -m venv --clear --without-pip $(2)
	$(call install,$(2),$(3))
endef

# C for registers of 16 numbers, on an emulated processor that has them, in three minutes.
test-avx512: build/bundles
	tests/support/avx512.sh build/avx512 $(BIN)/lnn-edge build/bundles/*.lnn

# Mutated bundles, kills and signals by the ten thousand, on the newest onnxruntime and on the newest for Python 3.10.
HOSTILE ?=

test-hostile: build/bundles build/wheel
	$(call installed,$(PYTHON310),build/hostile-310,build/wheel/*.whl 'onnxruntime==1.23.2' mcap onnx protobuf pytest)
	$(BIN)/python tests/support/hostile.py build/bundles $(HOSTILE)
	build/hostile-310/bin/python tests/support/hostile.py build/bundles $(HOSTILE)

# The golden sequences in everybody else's runtime, in a folder that nothing else sees. Of npm's package the installer would
# fetch CUDA libraries; where there is no npm, it is left out.
RUNTIMES := build/runtimes

runtimes: $(RUNTIMES)/ready
	$(BIN)/python -m pytest -n 2 tests/export/runtimes

$(RUNTIMES)/ready: .venv/ready-dev
	rm -rf $(RUNTIMES) && mkdir -p $(RUNTIMES)
	$(call install,.venv,--no-deps --target $(RUNTIMES)/pypi MNN==3.6.1 onnxruntime==1.20.1 openvino==2026.4.1 tract==0.23.9)
	! command -v npm > /dev/null || \
		npm install --prefix $(RUNTIMES) --no-audit --no-fund --ignore-scripts onnxruntime-node@1.30.0
	touch $@

# Recordings opened by Rerun, whose reader is another one than the library's; with what it needs, but for NumPy.
rerun: .venv/ready-dev
	rm -rf build/$@
	$(PIP) install --no-deps --target build/$@ attrs pillow psutil pyarrow rerun-sdk typing-extensions
	$(BIN)/python -m pytest tests/runtime/record/test_rerun.py

build/bundles: .venv/ready-dev
	mkdir -p $@
	$(BIN)/python tests/support/shared_bundles.py $@

bench: .venv/ready
	$(BIN)/python benchmarks/step_overhead.py

# Other runtimes beside ours; they live in a folder of their own, and nothing else needs them.
PEERS := absl-py ai-edge-litert ai-edge-quantizer flatbuffers immutabledict jax jaxlib jaxtyping litert-converter \
	litert-lm-builder litert-torch ml_dtypes multipledispatch openvino openvino-telemetry opt_einsum tabulate tqdm torchao \
	wadler-lindig

bench-peers: build/peers
	PYTHONPATH=build/peers $(BIN)/python benchmarks/peers.py --json build/peers.json

build/peers: .venv/ready-dev
	rm -rf $@ $@.part
	$(PIP) install --no-deps --target $@.part $(PEERS)
	mv $@.part $@ # whole, or to be made again

# Small faults in a copy of the source, each of which a test must notice; too long for `make test`.
mutations: .venv/ready-dev
	$(BIN)/python tests/support/mutations.py --jobs 2

.venv/ready: pyproject.toml constraints.txt hatch_build.py lnn_edge/runtime/compiled/step.c
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "lnn-edge needs Python 3.10 to 3.13. Type: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	-$(PIP) install -c constraints.txt uv
	rm -rf build/torch
	$(PIP) download --no-deps -d build/torch $(TORCH_ARGS) "$$(grep '^torch==' constraints.txt)"
	$(call install,.venv,$(TORCH_ARGS) build/torch/*.whl)
	rm -r build/torch
	$(call install,.venv,-c constraints.txt editables 'hatchling>=1.26' 'numpy>=2') # what builds it, once and not in a folder of its own
	$(call install,.venv,-c constraints.txt --no-build-isolation -e '.[export]')
	touch $@

# NVIDIA's bindings, and its parser and builder (TensorRT for RTX, under NVIDIA's own licence: named here, never shipped)
# have no wheel for some machines; the tests that need them say so there.
.venv/ready-dev: .venv/ready
	$(call install,.venv,-c constraints.txt 'build>=1.2' 'cuda-bindings>=13' 'gymnasium[mujoco]' 'hatchling>=1.26' \
		emx-onnx-cgen hypothesis ipykernel matplotlib mcap mcap-protobuf-support mypy nbclient nvidia-cuda-runtime \
		onnxscript pandas protobuf pyelftools pytest pytest-timeout pytest-xdist ruff scikit-learn ziglang)
	$(call install,.venv,--no-deps 'nvidia-cuda-nvcc>=13')
	-$(call install,.venv,--no-deps 'tensorrt-cu13-bindings==11.4.0.106')
	-$(call install,.venv,--no-deps 'tensorrt-rtx-cu13-bindings==1.7.1.116' 'tensorrt-rtx-cu13-libs==1.7.1.116')
	touch $@

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
