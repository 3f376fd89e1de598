#!/usr/bin/env bash
# Formats everything in place.
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files '*.cc' '*.h' | xargs clang-format -i
git ls-files '*.py' | xargs -r .deps/lint/bin/ruff format --quiet --line-length 120
git ls-files 'BUILD.bazel' '**/BUILD.bazel' '*.bzl' '*.BUILD' WORKSPACE | xargs .deps/lint/bin/buildifier
