#!/usr/bin/env bash
# Formatting and static analysis; changes nothing (`make fmt` does).
#   LINT_BASE=REV tools/lint.sh     clang-tidy looks at what has changed since REV (default: by the last commit)
#   LINT_ALL=1 tools/lint.sh        … at everything
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0
check() { # check NAME COMMAND…
  local name=$1
  shift
  if "$@"; then
    passed=$((passed + 1))
  else
    echo "lint: $name failed" >&2
    failed=$((failed + 1))
  fi
}
mapfile -t cxx < <(git ls-files '*.cc' '*.h')
mapfile -t shell < <(git ls-files '*.sh' .ci/run tools/bazel)
mapfile -t build < <(git ls-files 'BUILD.bazel' '**/BUILD.bazel' '*.bzl' '*.BUILD' WORKSPACE | grep -v '^third_party/rules_cc\|^third_party/remote')
mapfile -t python < <(git ls-files '*.py')

check clang-format clang-format --dry-run --Werror "${cxx[@]}"
check shellcheck shellcheck -x "${shell[@]}"
check buildifier .deps/lint/bin/buildifier -mode=check "${build[@]}"
if [ ${#python[@]} -gt 0 ]; then
  check "ruff check" .deps/lint/bin/ruff check --quiet "${python[@]}"
  check "ruff format" .deps/lint/bin/ruff format --check --quiet --line-length 120 "${python[@]}"
fi
check "no words of one machine" tools/lint_words.sh
check "messages in docs/troubleshooting.md" tools/lint_messages.sh

if [ "${LINT_ALL:-}" = 1 ]; then which=(--all); else which=(--since "${LINT_BASE:-HEAD~1}"); fi
if tools/compile_commands.py >/dev/null; then check clang-tidy tools/tidy.py "${which[@]}"; else failed=$((failed + 1)); fi
printf '%d passed, %d failed, 0 skipped\n' "$passed" "$failed"
[ "$failed" = 0 ]
