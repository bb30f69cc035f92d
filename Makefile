# The few commands of README. `make setup` is what the others stand on: a virtual environment in .venv, with the package.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: setup demo demo-seeds demo-ai-seeds hh-splits kills certify golden bench bench-ops sanitize cuda-check gpu test lint format

setup: $(INSTALLED)

# Torch and the build tools first: pip's build isolation would hide them, and the C++ extension would not be built.
$(INSTALLED): pyproject.toml setup.py constraints.txt $(wildcard csrc/* csrc/*/* csrc/*/*/*) alignlab/ops/build.py alignlab/ops/_extension.py $(wildcard plugins/*/pyproject.toml)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt torch setuptools wheel ninja "tomli; python_version < '3.11'"
	$(BIN)/python -m pip install -c constraints.txt --no-build-isolation -e ".[dev]"
	touch $@

demo: setup
	$(BIN)/alignlab demo

# Slow proofs, with the numbers of README: PPO and DPO beat SFT for each of 5 seeds (about 16 minutes).
demo-seeds: setup
	$(BIN)/alignlab demo --seeds 0 1 2 3 4

# The same for AI feedback and for a constitution: each policy beats SFT for each of 5 seeds.
demo-ai-seeds: setup
	$(BIN)/alignlab demo --method rlaif --seeds 0 1 2 3 4
	$(BIN)/alignlab demo --method cai --seeds 0 1 2 3 4

# The reward model of recipes/hh.yaml on 5 splits of the real preferences: make hh-splits HH=data.jsonl.gz
HH ?= ../shared/data/hh-rlhf-harmless-base-test.jsonl.gz
hh-splits: setup
	$(BIN)/python benchmarks/hh_reward_model.py $(HH)

# Kill runs 40 times with SIGKILL and compare what is left with an unbroken run, byte for byte (about 10 minutes).
kills: setup
	PYTHONPATH=tests $(BIN)/python tests/kills/harness.py

# Every method of ours against the exact optimum, 5 seeds each, in two processes of one thread (docs/certification.md).
certify: setup
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/certify.py

# Steps and generation beside TRL's, each in an environment of its own, in turn: about 8 minutes on an idle machine.
bench: setup .peers/trl-1.16/.installed .peers/trl-1.12/.installed .peers/inputs/.written
	$(BIN)/python benchmarks/steps/run.py --inputs .peers/inputs \
		--trl-1.16 .peers/trl-1.16/bin/python --trl-1.12 .peers/trl-1.12/bin/python

.peers/trl-%/.installed: benchmarks/steps/trl-%.txt
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install -r $<
	touch $@

.peers/inputs/.written: $(INSTALLED) benchmarks/steps/inputs.py benchmarks/steps/tasks.py $(HH)
	rm -rf $(@D)
	$(BIN)/python benchmarks/steps/inputs.py $(HH) $(@D)
	touch $@

# Every op against its reference, torch.compile and peers, in both memory regimes (about 10 minutes).
bench-ops: setup
	$(BIN)/python -m pip install -q -c constraints.txt matplotlib
	$(BIN)/python benchmarks/ops/run.py
	$(BIN)/python benchmarks/ops/growth.py

# The op tests on kernels that AddressSanitizer and UndefinedBehaviorSanitizer watch. torch itself is not compiled for
# them, so that only what csrc/ does is seen; leaks are Python's. Under two minutes; CI runs it too.
sanitize: setup
	$(BIN)/python tests/sanitize.py

# The CUDA sources compile for sm_80 and sm_90, and no kernel spills registers. Needs nvcc, and no GPU.
cuda-check: setup
	$(BIN)/python tests/gpu/compiled.py

# On a machine with a GPU: build, test, time, and write benchmarks/results/<device>.json. It takes the Python that is
# there, because a machine with a GPU often has its own torch, and no network.
gpu:
	$(PYTHON) tests/gpu/run.py

# After a change that is meant to move the losses.
golden: setup
	PYTHONPATH=tests $(BIN)/python tests/golden/test_golden.py
	PYTHONPATH=tests $(BIN)/python tests/golden/test_dpo.py

test: lint
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
