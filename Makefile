# `make help` lists the targets. Each does all the set-up it needs on a fresh Debian or Ubuntu machine.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BAZEL ?= bazel
export BAZEL

.PHONY: help quickstart test test-all test-unit bench bench-gpu fuzz fmt lint dist setup-dev

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 14

quickstart: ## a fresh machine to a fine-tuned model: sets up, builds, trains SmolLM2 on a FAQ, shows what it learnt
	@tools/setup.sh build model
	@tools/quickstart.sh

test: ## what CI runs: lint, unit tests, sanitizers, fuzzing, short parity, a fine-tune; TAGS=requires_cuda: those tests alone
	@TAGS='$(TAGS)' tools/test.sh

test-all: ## everything: full parity, long fuzzing (before an issue is closed)
	@FUZZ_SECONDS=300 tools/test.sh --all

test-unit: ## unit tests alone
	@tools/setup.sh build
	@tools/bazel_test.sh //...

bench: ## speed and memory beside Transformers + PEFT, and the job path's overhead
	@tools/setup.sh build model oracle
	@tests/benchmarks/run.sh

bench-gpu: ## ROW=1b-lora: a row of the GPU benchmark beside Transformers + PEFT + Liger; without ROW: the rows
	@tools/setup.sh build
	@tests/benchmarks/gpu/run.sh

fuzz: ## every fuzz target for FUZZ_SECONDS (30)
	@tools/setup.sh build dev
	@tools/fuzz.sh $${FUZZ_SECONDS:-30}

fmt: ## format everything in place
	@tools/setup.sh build dev
	@tools/fmt.sh

lint: ## formatting and static analysis; changes nothing
	@tools/setup.sh build dev
	@tools/lint.sh

dist: ## release binaries that need only glibc, libstdc++ and LibTorch, under bazel-bin
	@tools/setup.sh build
	@$(BAZEL) build --config=dist //controller:studio-controller //worker/agent:studio-worker //worker/trainer:studio-trainer //worker/data:studio-dataprep //studioctl

setup-dev: ## what building, testing and linting need, and nothing more
	@tools/setup.sh build model oracle dev
