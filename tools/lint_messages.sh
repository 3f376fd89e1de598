#!/usr/bin/env bash
# Every message that docs/troubleshooting.md quotes in a heading stands in the sources; "…" there is whatever varies.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
sources=$(mktemp)
trap 'rm -f "$sources"' EXIT
# Literals that the formatter broke are joined first.
git ls-files '*.cc' '*.h' | grep -v '_test\.cc$' | xargs perl -0777 -pe 's/\\"/\x01/g; s/"\s*\n\s*"//g; s/\x01/"/g' >"$sources"
bad=0 messages=0
# shellcheck disable=SC2016 # backticks of Markdown
while IFS= read -r message; do
  messages=$((messages + 1))
  while IFS= read -r part; do
    part=$(sed -E 's/^ +| +$//g' <<<"$part")
    [ -z "$part" ] && continue
    # LibTorch's own messages are known to common/memory in lower case.
    grep -qiF -- "$part" "$sources" && continue
    echo "docs/troubleshooting.md: no program writes \"$part\" (of \"$message\")" >&2
    bad=1
  done <<<"${message//…/$'\n'}"
done < <(sed -nE 's/^### `(.*)`$/\1/p' docs/troubleshooting.md)
[ "$messages" -gt 0 ] || { echo "docs/troubleshooting.md: no messages found" >&2; bad=1; }
exit $bad
