# `make help` lists the targets. Each does all the set-up it needs on a fresh Debian or Ubuntu machine.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BAZEL ?= bazel

.PHONY: help
help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 16

.PHONY: setup-dev
setup-dev: ## what building, testing and linting need
	@tools/setup.sh build model oracle dev

.PHONY: test-unit
test-unit: ## unit tests alone
	@tools/setup.sh build
	$(BAZEL) test //...
