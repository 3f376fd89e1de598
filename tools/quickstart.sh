#!/usr/bin/env bash
# `make quickstart` after tools/setup.sh build model: builds, starts a controller and a worker on loopback, fine-tunes
# SmolLM2-135M-Instruct on the construction FAQ through them, and shows what changed.
#   tools/quickstart.sh [studioctl submit's options, such as --set training.max_steps=40]
# Leaves quickstart/: model and data (links), the result, the state of both programs, summary.json. Ends what it started.
set -euo pipefail
cd "$(dirname "$0")/.."
began=$(date +%s.%N)
say() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }
[ -t 2 ] || say() { printf '\n%s\n' "$*" >&2; }
home=$PWD/quickstart
mkdir -p "$home"
exec 9>"$home/.lock"
flock -n 9 || { echo "quickstart: another one runs in $home" >&2; exit 1; }

say "Building"
# Without the lock's descriptor: Bazel's server outlives this script.
"${BAZEL:-bazel}" build //controller:studio-controller //worker/agent:studio-worker //worker/trainer:studio-trainer \
  //worker/data:studio-dataprep //studioctl 9>&-
# One folder for all of them: the worker takes the trainer and studio-dataprep that lie beside it.
bin=$home/bin
mkdir -p "$bin"
for program in controller/studio-controller worker/agent/studio-worker worker/trainer/studio-trainer \
  worker/data/studio-dataprep studioctl/studioctl; do
  ln -sfn "$PWD/bazel-bin/$program" "$bin/"
done

say "Model and data"
mapfile -t example < <(tools/fetch_example.sh)
[ ${#example[@]} = 3 ] || exit 1
mkdir -p "$home/data"
ln -sfn "${example[0]}" "$home/model"
ln -sfn "${example[1]}" "${example[2]}" "$(dirname "${example[1]}")/ATTRIBUTION.txt" "$home/data/"
printf '%s\n' "${example[@]}" >&2

say "Controller and worker"
rm -rf "$home/state" "$home/result" "$home/summary.json" "$home/log"
mkdir -p "$home/log"
children=()
end_children() {
  local pid
  for ((i = ${#children[@]} - 1; i >= 0; i--)); do
    pid=${children[i]}
    kill -TERM "$pid" 2>/dev/null || continue
    for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
}
trap end_children EXIT
trap 'exit 130' INT TERM
start() { # start NAME COMMAND…: in the background; its output goes to quickstart/log
  local name=$1
  shift
  "$@" >"$home/log/$name.out" 2>"$home/log/$name.log" 9>&- &
  children+=($!)
}
wait_for() { # wait_for NAME PATTERN: the first match in the program's stdout
  local name=$1 pid=${children[-1]} found
  for _ in $(seq 300); do
    found=$(grep -oE "$2" "$home/log/$name.out" | head -n 1 || true)
    if [ -n "$found" ]; then printf '%s' "$found"; return 0; fi
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  echo "quickstart: $name did not start:" >&2
  tail -n 20 "$home/log/$name.log" >&2
  return 1
}
start controller "$bin/studio-controller" --listen 127.0.0.1:0 --transfer-listen 127.0.0.1:0 --metrics-listen "" \
  --state-dir "$home/state/controller"
address=$(wait_for controller 'listening on 127\.0\.0\.1:[0-9]+')
export STUDIO_CONTROLLER=${address#listening on }
start worker "$bin/studio-worker" --controller "$STUDIO_CONTROLLER" --state-dir "$home/state/worker" \
  --trainer "$bin/studio-trainer"
echo "controller on $STUDIO_CONTROLLER, logs in $home/log" >&2

say "Training: studioctl submit --follow examples/smollm2_faq_lora.pb.txt"
ctl=$bin/studioctl
code=0
"$ctl" submit --follow "$@" examples/smollm2_faq_lora.pb.txt || code=$?
job=$("$ctl" list -o name | head -n 1)
if [ "$code" != 0 ]; then
  echo "quickstart: job ${job:-?} ended with $code; its log:" >&2
  "$ctl" logs "$job" 2>/dev/null | tail -n 30 >&2 || true
  tail -n 20 "$home/log/controller.log" "$home/log/worker.log" >&2
  exit 1
fi
"$ctl" download "$job" --out "$home/result" >&2
"$ctl" get "$job" -o json >"$home/job.json"

.deps/convert/bin/python tools/quickstart_summary.py "$home/job.json" "$home/result" "$began" "$home/summary.json"
