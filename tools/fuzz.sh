#!/usr/bin/env bash
# Fuzzes every target tagged "fuzz" for some seconds each, as many at once as there are cores, from its corpus; a finding
# is kept and named.
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
binaries=$($bazel info --config=fuzz bazel-bin 2>/dev/null)
out=$(mktemp -d)

fuzz() { # fuzz //PACKAGE:NAME
  local path=${1#//} package name work
  package=${path%%:*} name=${path##*:}
  work=$out/$name
  mkdir -p "$work"
  # The corpus: NAME_corpus/ or corpus/NAME/ where a package has several targets, else corpus/.
  for folder in "$package/${name%_fuzz}_corpus" "$package/corpus/${name%_fuzz}" "$package/corpus"; do
    if [ -d "$folder" ]; then
      cp -r "$folder/." "$work/"
      break
    fi
  done
  if "$binaries/$package/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$out/$name-" "$work" >"$out/$name.log" 2>&1; then
    printf '%-50s %s\n' "$1" "$(grep -oE 'number_of_executed_units.*' "$out/$name.log")"
    touch "$out/$name.passed"
  else
    tail -n 40 "$out/$name.log"
    echo "$1: finding kept: $(ls "$out/$name-"* 2>/dev/null)"
  fi
}
export -f fuzz
export out binaries seconds
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I TARGET bash -c 'fuzz TARGET'

passed=$(find "$out" -maxdepth 1 -name '*.passed' | wc -l)
failed=$((${#targets[@]} - passed))
[ "$failed" != 0 ] || rm -rf "$out"
printf '%d passed, %d failed, 0 skipped\n' "$passed" "$failed"
[ "$failed" = 0 ]
