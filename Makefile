# `make help` lists the targets. Each does all the set-up it needs on a fresh Debian or Ubuntu machine.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BAZEL ?= bazel
export BAZEL

IMAGES := arm64-cuda x86_64-cuda x86_64-cpu
.PHONY: help quickstart test test-all test-unit arm64-test sim soak bench bench-gpu fuzz fmt lint dist setup-dev
.PHONY: $(IMAGES:%=docker-build-%) $(IMAGES:%=docker-run-%) $(IMAGES:%=docker-clean-%)

help: ## this list
	@grep -hE '^[a-z0-9%-]+:.*## |^[^ ]+ [a-z-]+%:.*## ' $(MAKEFILE_LIST) | sed -E 's/^[^ ]+: (docker[a-z-]+%)/\1/; s/^([a-z0-9%-]+):.*## /\1\t/' | expand -t 16

quickstart: ## a fresh machine to a fine-tuned model: sets up, builds, trains SmolLM2 on a FAQ, shows what it learnt
	@tools/setup.sh build model
	@tools/quickstart.sh

# LIBTORCH=2.7.1 chooses another LibTorch of third_party/pins.sh, for any target; make hands it on in the environment.
test: ## what CI runs: lint, unit tests, sanitizers, fuzzing, short parity, a fine-tune; TAGS=requires_cuda: those tests alone; LIBTORCH=2.7.1: on that one
	@TAGS='$(TAGS)' tools/test.sh

test-all: ## everything: full parity, long fuzzing, the oldest and newest LibTorch, ARM64 (before an issue is closed)
	@FUZZ_SECONDS=300 tools/test.sh --all

test-unit: ## unit tests alone
	@tools/setup.sh build
	@tools/bazel_test.sh //...

arm64-test: ## on x86-64: ARM64 programs, the suite and a fine-tune under emulation, checkpoints to and fro
	@tools/setup.sh build arm64
	@tests/arm64/run.sh

sim: ## SEEDS=20000: the deterministic simulation, seeds 1 to SEEDS, then its mutations (docs/simulation.md)
	@tools/setup.sh build
	@SEEDS=$${SEEDS:-20000} tests/sim/run.sh

bench: ## speed and memory beside Transformers + PEFT, and the job path's overhead
	@tools/setup.sh build model oracle
	@tests/benchmarks/run.sh

bench-gpu: ## ROW=1b-lora: a row of the GPU benchmark beside Transformers + PEFT + Liger; without ROW: the rows
	@tools/setup.sh build
	@tests/benchmarks/gpu/run.sh

soak: ## FAULTS=100 real faults (kills, stops, partitions) drawn by SEED, then a judgement; adds a row to docs/soak.md
	@tools/setup.sh build
	@tests/faults/soak.sh

fuzz: ## every fuzz target for FUZZ_SECONDS (30)
	@tools/setup.sh build dev
	@tools/fuzz.sh $${FUZZ_SECONDS:-30}

fmt: ## format everything in place
	@tools/setup.sh build dev
	@tools/fmt.sh

lint: ## formatting and static analysis; changes nothing
	@tools/setup.sh build dev
	@tools/lint.sh

dist: ## release binaries that need only glibc, libstdc++ and LibTorch, under bazel-bin; beside a card studio-trainer-cuda too
	@tools/setup.sh build
	@$(BAZEL) build --config=dist //controller:studio-controller //worker/agent:studio-worker //worker/trainer:studio-trainer //worker/data:studio-dataprep //studioctl \
	  $(if $(wildcard /dev/nvidiactl),//worker/trainer:studio-trainer-cuda)

setup-dev: ## what building, testing and linting need, and nothing more
	@tools/setup.sh build model oracle dev

$(IMAGES:%=docker-build-%): docker-build-%: ## an image, % one of arm64-cuda, x86_64-cuda, x86_64-cpu; by docker or podman (deploy/docker/docker.sh)
	@deploy/docker/docker.sh build $*

$(IMAGES:%=docker-run-%): docker-run-%: ## a worker of STUDIO_CONTROLLER in it
	@deploy/docker/docker.sh run $*

$(IMAGES:%=docker-clean-%): docker-clean-%: ## removes the image and its volume
	@deploy/docker/docker.sh clean $*
