# Helios World: `make play` plays, `make test` runs every test. Both set up .venv first, once.
# Options: ARGS="--seed 3" goes to the game or to pytest; PYTHON=python3.12 picks the interpreter;
# TORCH_INDEX=URL picks where torch comes from (empty: the default index of pip).

VENV := .venv
PY := $(VENV)/bin/python
CPU_INDEX := https://download.pytorch.org/whl/cpu
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11
SECONDS := 3600
MARKS := not gpu and not soak and not clients

# On Linux, plain torch brings gigabytes of CUDA. Without an NVIDIA GPU the CPU build is enough, where its index answers.
TORCH_INDEX = $(shell [ "$$(uname)" = Linux ] && ! command -v nvidia-smi >/dev/null \
	&& $(PY) -m pip --isolated index versions torch --index-url $(CPU_INDEX) --retries 0 --timeout 5 >/dev/null 2>&1 \
	&& echo $(CPU_INDEX))
install = $(PY) -m pip install --disable-pip-version-check -c constraints.txt \
	$(addprefix --extra-index-url ,$(TORCH_INDEX)) --editable

.PHONY: help play test clients soak fuzz check format clean
help:
	@echo "make play    set up once, then open the game   (make play ARGS='--seed 3')"
	@echo "make test    set up once, then run every test that needs no GPU   (make test ARGS='-k env')"
	@echo "make clients build the clients in other languages and run them against a live server"
	@echo "make fuzz    look for an hour for bytes that break decoder, server or gateway   (make fuzz SECONDS=60)"
	@echo "make soak    a hundred clients join and leave a server for an hour   (make soak ARGS='--seconds 300')"
	@echo "make check   linter and formatter, changing nothing"
	@echo "make format  let the formatter change files"
	@echo "make clean   remove .venv and everything built"

play: $(VENV)/.play
	@$(PY) -m helios_world play $(ARGS)

test: $(VENV)/.test
	$(PY) -m pytest -m "$(MARKS)" $(ARGS)

# -s: figures are printed. What each needs, and what is skipped without it, says clients/README.md.
clients: $(VENV)/.test
	$(PY) -m pytest -m clients -s $(ARGS)

# What must not grow, and what was found: docs/reliability.md.
soak: $(VENV)/.test
	$(PY) -m tests.soak $(ARGS)

# A failing input is written to build/fuzz/TARGET/, and `python -m tests.fuzz TARGET FILE` runs it again.
fuzz: $(VENV)/.test
	$(PY) -m tests.fuzz --seconds $(SECONDS)

check: $(VENV)/.dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(VENV)/.dev
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:
	rm -rf $(VENV) clients/*/build clients/javascript/node_modules build dist *.egg-info .pytest_cache .ruff_cache .hypothesis

# A stamp is newer than pyproject.toml and constraints.txt when what they ask for is installed.
$(VENV)/.play: $(VENV)/.made pyproject.toml constraints.txt
	$(install) '.[play]'
	@touch $@

$(VENV)/.test: $(VENV)/.made pyproject.toml constraints.txt
	$(install) '.[test]'
	@touch $@ $(VENV)/.play

$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	$(install) '.[dev]'
	@touch $@ $(VENV)/.test $(VENV)/.play

$(VENV)/.made:
	@if [ ! -x $(VENV)/bin/pip ]; then \
		for python in $(if $(PYTHON),$(PYTHON),$(PYTHONS)); do \
			$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && found=$$python && break; \
		done; \
		if [ -z "$$found" ]; then echo "make: Python 3.11 or newer is needed: none of $(if $(PYTHON),$(PYTHON),$(PYTHONS)) is"; exit 2; fi; \
		if ! $$found -c 'import ensurepip' 2>/dev/null; then echo "make: $$found cannot make a venv: on Debian and Ubuntu, apt install python3-venv"; exit 2; fi; \
		echo "Setting up .venv, once: this takes a minute or two."; \
		$$found -m venv --clear $(VENV); \
	fi
	@touch $@
