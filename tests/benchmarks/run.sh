#!/bin/sh
# `make bench` after tools/setup.sh build model oracle: speed and memory beside Transformers + PEFT, the job path,
# submits over the number of clients, and a restart with 10,000 jobs and 200 workers.
#   tests/benchmarks/run.sh [fine_tune.py's options, such as --pairs 5]
# Wants an idle machine: figures of a busy one are worth their ratios at best.
set -eu
cd "$(dirname "$0")/../.."
export PYTHONDONTWRITEBYTECODE=1 TRANSFORMERS_OFFLINE=1 HF_HUB_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1
"${BAZEL:-bazel}" build --noshow_progress //worker/trainer:studio-trainer
.deps/oracle/bin/python tests/benchmarks/fine_tune.py "$@"
"${BAZEL:-bazel}" run --noshow_progress --ui_event_filters=-info //tests/benchmarks/job_path
"${BAZEL:-bazel}" run --noshow_progress --ui_event_filters=-info //tests/benchmarks/submits
"${BAZEL:-bazel}" run --noshow_progress --ui_event_filters=-info //tests/benchmarks/restart
