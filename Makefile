# Two commands matter: make run, make test.  `make` alone lists the rest.
# Another Python: make run PYTHON=python3.12; options of a command: make run ARGS="--port 7861".
# Another build of PyTorch: make run TORCH=cpu, cu126, cu130 or rocm; by itself it looks for a card with nvidia-smi.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1 && echo $$p && exit; \
	done; echo python3)
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
ARGS ?=
# Where other packages might make a difference: prompts, loading models, files, the page, the program itself.
# Of the security tests those that need no browser; the hostile requests and the kills take minutes.
MINIMAL := .venv-minimal
MINIMAL_TESTS := $(addprefix tests/,ui/test_page.py ui/server presets test_app.py::test_a_local_model_makes_no_request \
	$(addprefix security/,test_sessions_of_others.py test_guest_limits.py test_file_access.py test_disconnects.py \
	test_slow_clients.py test_work_before_limits.py) \
	$(addprefix pipelines/,prompt system grid test_model.py test_request.py trace/test_serialization.py \
	$(addprefix jobs/,test_backend.py test_local.py test_queue.py test_model_queries.py test_prompt_blocklist.py \
	test_guest_writes.py test_messages.py) \
	$(addprefix images/,test_png.py test_provenance.py test_masks.py test_file_bounds.py test_uploads.py \
	test_guest_uploads.py test_decoding_slots.py test_file_texts.py test_hidden_texts.py test_settings_in_files.py) \
	$(addprefix models/,families test_local_models.py test_model_files.py test_prompt_weighting.py checkpoints \
	$(addprefix adapters/,test_resolver.py test_textual_inversion.py test_lora_file.py)) \
	$(addprefix sampling/,test_conditioning.py test_initial_noise.py test_image_to_image.py)))
RAY := .venv-ray
TORCH ?= auto
# Once a build is there, only asking for another one replaces it.
TORCH_STAMP := $(if $(filter auto,$(TORCH)),$(firstword $(wildcard $(VENV)/torch-*.stamp) $(VENV)/torch-auto.stamp),$(VENV)/torch-$(TORCH).stamp)

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev run test test-minimal test-ray check lint train evaluate bench soak python clean

help: ## list these commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-12s %s\n", $$1, $$2 }'
	@echo 'Options of a command: make run ARGS="--port 7861"'

setup: $(VENV)/run.stamp ## make .venv and install what the program needs

setup-dev: $(VENV)/dev.stamp

run: setup ## start the program and print where its page is
	@exec $(PY) app.py $(ARGS)

test: $(MINIMAL)/minimal.stamp setup-dev test-minimal ## run every test, those in a browser included
	@$(PY) tests/support/browser_setup.py
	@$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
		--leave-out=$(MINIMAL)/passed-1 --leave-out=$(MINIMAL)/passed-2 $(ARGS)

# Users have none of the tests' packages, some of which change how others work: matplotlib speeds up prompts' parser.
# In two processes that share the files out; what passes here is what users have, and `make test` does not run it once
# more.
test-minimal: $(MINIMAL)/minimal.stamp ## run some tests without the packages that only tests need
	@rm -rf $(MINIMAL)/passed-* $(MINIMAL)/taken; mkdir $(MINIMAL)/taken; \
	run() { $(MINIMAL)/bin/python -m pytest -q -p no:cacheprovider --taken=$(MINIMAL)/taken \
		--write-passed=$(MINIMAL)/passed-$$1 $(MINIMAL_TESTS); }; \
	run 2 >$(MINIMAL)/part-2.log 2>&1 & second=$$!; run 1; first=$$?; wait $$second; second=$$?; \
	cat $(MINIMAL)/part-2.log; exit $$((first + second))

# In an environment of its own above .venv's packages, since Ray is an extra.
test-ray: $(RAY)/ray.stamp ## run the tests that start a real Ray on this computer
	@$(RAY)/bin/python -m pytest -q -p no:cacheprovider tests/pipelines/jobs/ray $(ARGS)

check: lint ## lint and the fast tests, for every few minutes
	@$(PY) -m pytest -q -n 2 --dist loadfile -m "not slow" $(ARGS)

lint: setup-dev ## check style, types and JavaScript
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check --quiet .
	@$(PY) -m mypy
	@$(VENV)/bin/oxlint ui

train: setup-dev ## train the embedded model from scratch (hours; resumes)
	@$(PY) -m pocket.train $(ARGS)

evaluate: setup-dev ## measure the embedded model, print JSON
	@$(PY) -m pocket.evaluate $(ARGS)

bench: setup-dev ## measure speed against plain diffusers
	@$(PY) -m benchmarks.run $(ARGS)

soak: setup-dev ## use, attack, overload and kill the running program for half an hour, then read 5,000 malformed files
	@$(PY) -m benchmarks.soak $(ARGS)
	@PLAYGROUND_KILLS=20 $(PY) -m pytest -q tests/pipelines/jobs/ray
	@PLAYGROUND_MALFORMED=5000 $(PY) -m pytest -q tests/history/readers/test_malformed.py

clean: ## remove .venv and caches
	rm -rf $(VENV) $(MINIMAL) $(RAY) .pytest_cache .ruff_cache .mypy_cache .hypothesis

python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
		echo "There is no $(PYTHON) here; install Python 3.11, 3.12 or 3.13." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
		echo "$$($(PYTHON) --version 2>&1) is not supported; install Python 3.11, 3.12 or 3.13, or name one: make run PYTHON=python3.12." >&2; exit 1; }

$(PY): | python
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv." >&2; exit 1; }

$(TORCH_STAMP): | $(PY)
	@build=`$(PY) -m pipelines.system.gpu.torch_build $(TORCH)` || exit 1; \
	if [ -n "$$build" ] && ! $(PIP) --retries 1 $$build; then \
		if [ "$(TORCH)" != auto ]; then echo "PyTorch's build $(TORCH) cannot be fetched; see above." >&2; exit 1; fi; \
		echo "That build cannot be fetched, so PyPI's own is." >&2; \
	fi; \
	case "$$build" in *cu126*) $(PIP) $$build -r requirements-xformers.txt --extra-index-url https://pypi.org/simple || true;; esac
	@rm -f $(VENV)/torch-*.stamp
	@touch $@

$(VENV)/run.stamp: requirements.txt $(TORCH_STAMP) | $(PY)
	@echo "Installing the requirements (once; a minute, and as long as PyTorch takes to arrive) ..."
	@$(PIP) -r requirements.txt
	@touch $@

# While $(VENV) holds the requirements alone, its files are linked instead of being fetched and written a second time.
$(MINIMAL)/minimal.stamp: requirements.txt requirements-dev.txt $(VENV)/run.stamp
	@echo "Installing the requirements without what the tests need besides pytest and hypothesis (once) ..."
	@test -x $(MINIMAL)/bin/python || $(PYTHON) -m venv $(MINIMAL)
	@test -e $(VENV)/dev.stamp || cp -alf $(VENV)/lib/python3*/site-packages/. \
		$(MINIMAL)/lib/python3*/site-packages/ 2>/dev/null || true
	@$(MINIMAL)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt \
		$$(grep -E '^(pytest|hypothesis)==' requirements-dev.txt)
	@touch $@

$(RAY)/ray.stamp: requirements-ray.txt $(VENV)/dev.stamp
	@echo "Installing Ray for its tests (once) ..."
	@test -x $(RAY)/bin/python || $(PY) -m venv $(RAY)
	@$(PY) -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' > `$(RAY)/bin/python -c \
		'import sysconfig; print(sysconfig.get_paths()["purelib"])'`/program.pth
	@$(RAY)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-ray.txt
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(VENV)/run.stamp
	@echo "Installing what the tests need ..."
	@$(PIP) -r requirements-dev.txt
	@touch $@
