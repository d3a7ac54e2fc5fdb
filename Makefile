# Every command sets up what it needs first. The same commands without make are in README.md.
#
#   PYTHON=python3.12    the Python to build .venv with (3.11, 3.12 or 3.13; found by itself otherwise)
#   PYTEST="-k attention -x"    more arguments for pytest
#   TUTORIAL="--notebook 03"    more arguments for notebooks/build.py
#   BENCH="tokenizer ngram"     which benchmarks; all otherwise
#   TORCH="torch==2.13.0"       which PyTorch `make parity` installs

VENV ?= .venv
PYTHON ?=
PYTEST ?=
TUTORIAL ?=
BENCH ?=
TORCH ?= torch
JOBS ?= auto

PY := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)/python
LOG := $(VENV)/pip.log
STAMP := $(VENV)/.installed
PARITY := $(VENV)/.installed-parity-$(subst =,-,$(subst >,-,$(subst <,-,$(TORCH))))

# One BLAS thread for each of pytest's workers: two pools on two cores would wait for each other.
ONE_THREAD := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
RUN_PYTEST := $(ONE_THREAD) $(PY) -m pytest -n $(JOBS) --maxprocesses 4

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.DEFAULT_GOAL := help
.PHONY: help setup tutorial lab test test-slow test-gpu parity bench lint clean

help: ## this list
	@echo "minilm: large language models from first principles, in NumPy you can read"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## make .venv and install everything that the course and the tests need
	@echo "Ready: $(PY)"

tutorial: $(STAMP) ## execute every notebook and render the course to build/tutorial/index.html
	@$(PY) notebooks/build.py $(TUTORIAL)

lab: $(VENV)/.installed-lab ## open the notebooks in JupyterLab
	@echo "Opening notebooks/ in JupyterLab; Ctrl-C ends it"
	@$(PY) -m jupyterlab notebooks

test: $(STAMP) ## the test suite: every gradient, kernel, model and the quick notebooks
	@echo "Running the test suite (a few minutes on 2 cores)"
	@$(RUN_PYTEST) -m "not slow" --ignore=tests/parity $(PYTEST)

test-slow: $(STAMP) ## the tests that take longer than ten seconds each
	@echo "Running the slow tests"
	@$(RUN_PYTEST) -m slow --ignore=tests/parity $(PYTEST) || { code=$$?; \
	  if [ $$code -eq 5 ]; then echo "No test is marked slow."; else exit $$code; fi; }

test-gpu: $(VENV)/.installed-cuda ## the tests that need an NVIDIA GPU
	@echo "Running the GPU tests"
	@$(PY) -m pytest -m gpu $(PYTEST)

parity: $(PARITY) ## compare with PyTorch and Transformers
	@echo "Comparing with PyTorch and Transformers"
	@$(ONE_THREAD) $(PY) -m pytest tests/parity $(PYTEST)

bench: $(STAMP) ## run the benchmarks, each in a fresh process (BENCH="tokenizer ngram" for some)
	@$(PY) -m benchmarks $(BENCH)

lint: $(VENV)/.installed-lint ## ruff and mypy
	@echo "Checking with ruff, then types with mypy"
	@$(PY) -m ruff check .; style=$$?; $(PY) -m mypy && exit $$style

clean: ## remove all that make made: .venv, build, caches
	@echo "Removing $(VENV), build, dist and caches"
	@rm -rf $(VENV) build dist ./*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find minilm kernels notebooks tests benchmarks -type d \
	  \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

# --- the virtual environment -----------------------------------------------------------------------------------

# A venv whose Python has gone (moved, upgraded), or is not the one that PYTHON asks for, is built anew.
WHICH := import os, sys; print(sys.version, os.path.realpath(sys.base_prefix))
SAME = test "$$($(PY) -c '$(WHICH)' 2>/dev/null || echo gone)" = "$$($(or $(PYTHON),$(PY)) -c '$(WHICH)' 2>/dev/null)"
ifneq ($(wildcard $(VENV)/.installed*),)
  $(shell $(SAME) || rm -f $(VENV)/.installed*)
endif

define FIND_PYTHON
fail() { echo >&2; printf '%s\n' "$$@" >&2; exit 1; }; \
chosen=; seen=; \
for python in $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11 python); do \
  version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
  case $$version in 3.11|3.12|3.13) ;; *) seen="$$seen $$python is $$version."; continue;; esac; \
  if "$$python" -c 'import ensurepip, venv' 2>/dev/null; then chosen=$$python; break; fi; \
  no_venv=$$version; \
done; \
if [ -z "$$chosen" ] && [ -n "$$no_venv" ]; then fail \
  "Python $$no_venv is here, but without its venv module." \
  "On Debian or Ubuntu: sudo apt install python$$no_venv-venv    Then run make again."; \
elif [ -z "$$chosen" ]; then fail \
  "minilm needs Python 3.11, 3.12 or 3.13, and $(if $(PYTHON),PYTHON=$(PYTHON) is not one,none was found).$$seen" \
  "Install one (python.org, or your system's packages), or name it: make setup PYTHON=/path/to/python3.12"; \
fi
endef

# $(call INSTALL,arguments of pip install): quiet when it works; the end of the log and a way out when it does not.
define INSTALL
$(PY) -m pip install $(1) >$(LOG) 2>&1 || { \
  tail -n 15 $(LOG) >&2; \
  echo >&2; \
  if grep -qiE 'no space left' $(LOG); then \
    echo "The disk is full: free some space (about 1 GB) and run make again." >&2; \
  elif grep -qiE 'NewConnectionError|ConnectTimeout|name resolution|unreachable|Connection refused|ProxyError' $(LOG); then \
    echo "The package index cannot be reached: check the network or the proxy, and run make again." >&2; \
  else \
    echo "pip could not install $(1): the reason is above, the whole log in $(LOG)." >&2; \
  fi; exit 1; }
endef

$(STAMP): setup.cfg pyproject.toml
	@if $(SAME); then echo "Using $(VENV)"; exit 0; fi; \
	$(FIND_PYTHON); \
	echo "Building $(VENV) with $$chosen (Python $$version)"; \
	"$$chosen" -m venv --clear $(VENV) || fail "$$chosen -m venv $(VENV) failed: the reason is above."
	@echo "Installing minilm with what the course and the tests need (one to three minutes, 700 MB)"
	@$(call INSTALL,-e ".[all]")
	@touch $(STAMP)

$(VENV)/.installed-lab $(VENV)/.installed-lint: $(VENV)/.installed-%: $(STAMP)
	@echo "Installing the '$*' extra"
	@$(call INSTALL,-e ".[$*]")
	@touch $@

# torch first: whatever depends on it then takes the build that is here, and does not choose one by itself.
$(PARITY): $(STAMP)
	@echo "Installing $(TORCH) and Transformers (some minutes; PyTorch is large)"
	@$(call INSTALL,"$(TORCH)")
	@$(call INSTALL,-e ".[parity]")
	@touch $@

$(VENV)/.installed-cuda: $(STAMP)
	@command -v nvidia-smi >/dev/null || { \
	  echo "There is no NVIDIA driver here (nvidia-smi is not found): the GPU tests need one." >&2; exit 1; }
	@cuda=$$(nvidia-smi | sed -n 's/.*CUDA Version: \([0-9]*\).*/\1/p'); \
	case "$$cuda" in 12|13) ;; *) \
	  echo "The driver here supports CUDA $$cuda; minilm has an extra for 12 and for 13." >&2; exit 1;; esac; \
	echo "Installing CuPy for CUDA $$cuda"; \
	$(call INSTALL,-e ".[cuda$$cuda]")
	@touch $@
