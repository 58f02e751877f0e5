# Everything here works on a fresh clone with Python 3.11 or newer, gcc and make: what is
# missing is installed into .venv first, and a second run costs seconds.

VENV ?= .venv
# The first of these that is new enough; `make PYTHON=...` picks another.
PYTHON ?= $(shell for python in python3.11 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
RUN := $(VENV)/bin/python

SEEDS ?= 0
# Trainings, or processes of the tests, at a time; they share the cores.
JOBS ?= 2
DEMO_CONFIGS ?= \
	configs/demo/retinanet_digits_student.py \
	configs/demo/retinanet_digits_fitnet.py \
	configs/demo/retinanet_digits_diffkd.py \
	configs/demo/retinanet_digits_diffkd_attn.py

# The models of the tests and of the demo are too small to gain from more threads.
OMP_NUM_THREADS ?= 2
# On a busy machine, threads that wait must not take the cores from those that work.
OMP_WAIT_POLICY ?= passive
export OMP_NUM_THREADS OMP_WAIT_POLICY

.PHONY: help install demo test test-openmmlab gpu-check docs lint format hashes clean

help:
	@echo 'make demo      train and compare the small detectors (SEEDS="0 1 2" for three seeds)'
	@echo 'make test      lint and run the tests'
	@echo 'make gpu-check check and measure everything on a GPU: work_dirs/gpu_check.md'
	@echo 'make docs      build the documentation site in docs/_build/html and check its links'
	@echo 'make test-openmmlab   run the tests with the releases of 2024, in .venv-openmmlab'
	@echo 'make install   install everything into $(VENV); the others do so when needed'
	@echo 'make lint      ruff check and ruff format --check'
	@echo 'make format    let ruff fix and format the code'
	@echo 'make hashes    after a change of requirements/constraints*.txt (needs uv)'
	@echo 'make clean     remove builds and caches (not $(VENV)*, data or work_dirs)'

install:
	@test -n '$(PYTHON)' || { echo 'error: Python 3.11 or newer was not found; install it' \
		'or name it: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@$(PYTHON) tools/install.py --venv $(VENV)

demo: install
	$(RUN) tools/compare.py $(DEMO_CONFIGS) --seeds $(SEEDS) --jobs $(JOBS) \
		--work-dir work_dirs/demo
	$(RUN) tools/analysis_tools/visualize_features.py configs/demo/retinanet_digits_diffkd.py \
		"$$(cat work_dirs/demo/retinanet_digits_diffkd/seed_$(firstword $(SEEDS))/last_checkpoint)" \
		--out work_dirs/demo/features.png

# Processes at a time, each with one thread; a file's tests stay in one process and share its models.
test: lint
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(JOBS) --dist loadfile

# The second stack, see docs/stacks.md.
test-openmmlab:
	@$(PYTHON) tools/install.py --stack openmmlab --venv .venv-openmmlab
	OMP_NUM_THREADS=1 .venv-openmmlab/bin/python -m pytest -n $(JOBS) --dist loadfile

# What is above runs on the CPU; this is the same on a GPU, and its figures.
gpu-check: install
	$(RUN) tools/gpu_check.py

docs: install
	$(RUN) -m pip install -q -r requirements/docs.txt -c requirements/constraints.txt
	rm -rf docs/_build
	$(RUN) -m sphinx -W --keep-going -q -c docs -d docs/_build/doctrees . docs/_build/html
	$(RUN) docs/check_links.py docs/_build/html

lint: install
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: install
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

hashes: hashes.txt hashes-openmmlab.txt

hashes%:
	uv pip compile --no-deps --generate-hashes --universal --python-version 3.11 --no-annotate \
		--custom-compile-command 'make hashes' -q -o requirements/$@ requirements/constraints$*

clean:
	rm -rf build dist docs/_build *.egg-info .pytest_cache .ruff_cache .coverage
	find . -path './$(VENV)*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
