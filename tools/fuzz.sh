#!/usr/bin/env bash
# Fuzzes every target tagged "fuzz" for some seconds each, from its corpus; a finding is kept and named.
#   tools/fuzz.sh [SECONDS] [TARGET …]
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
seconds=${1:-30}
shift || true
bazel=${BAZEL:-bazel}
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <($bazel query 'attr(tags, "\bfuzz\b", //...)' 2>/dev/null)
[ ${#targets[@]} -gt 0 ] || { echo "no fuzz targets"; exit 1; }
$bazel build --noshow_progress --config=fuzz "${targets[@]}" || exit 1
passed=0 failed=0
out=$(mktemp -d)
binaries=$($bazel info --config=fuzz bazel-bin 2>/dev/null)
for target in "${targets[@]}"; do
  path=${target#//}
  package=${path%%:*} name=${path##*:}
  work=$out/$name
  mkdir -p "$work"
  # The corpus folder is named after the target: job_text_fuzz → job_text_corpus, else corpus.
  for folder in "$package/${name%_fuzz}_corpus" "$package/corpus"; do
    if [ -d "$folder" ]; then
      cp -r "$folder/." "$work/"
      break
    fi
  done
  echo "fuzzing $target for $seconds s"
  if "$binaries/$package/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$out/$name-" "$work" >"$out/$name.log" 2>&1; then
    grep -E 'number_of_executed_units' "$out/$name.log"
    passed=$((passed + 1))
  else
    tail -n 40 "$out/$name.log"
    echo "finding kept: $(ls "$out/$name-"* 2>/dev/null)"
    failed=$((failed + 1))
  fi
done
[ "$failed" != 0 ] || rm -rf "$out"
printf '%d passed, %d failed, 0 skipped\n' "$passed" "$failed"
[ "$failed" = 0 ]
