#!/usr/bin/env bash
# Writes one row of docs/verification.md: what was run, on what kind of machine, when, with what result. A row of the
# same command and machine is replaced.
#   tools/record.sh COMMAND RESULT [WHERE]      WHERE: default, this machine's architecture and what it has
set -euo pipefail
cd "$(dirname "$0")/.."
page=docs/verification.md
command=$1 result=$2
# What was there when the run began: a long one may end on another commit.
revision=${STUDIO_REVISION:-$(git rev-parse --short HEAD)}
here="$(uname -m), CPU"
if compgen -G '/dev/nvidia[0-9]*' >/dev/null; then here="$(uname -m), CUDA"; fi
where=${3:-$here}
key="| \`$command\` | $where |"
row="$key $(date -u +%F) | ${revision} | $result |"
if [ ! -e "$page" ]; then
  cat >"$page" <<'HEAD'
# What was verified, where

Rows are written by `tools/record.sh` after a run: `make test-all` calls it for each of its parts, a person for runs on machines
that have no checkout (packed by `tools/pack_device.sh` or `tests/benchmarks/gpu/pack.sh`).

| command | machine | date | revision | result |
|---|---|---|---|---|
HEAD
fi
rest=$(grep -vF "$key" "$page" || true)
{ sed -n '1,/^|---/p' <<<"$rest"; { sed '1,/^|---/d' <<<"$rest"; echo "$row"; } | grep . | sort; } >"$page.new"
mv "$page.new" "$page"
