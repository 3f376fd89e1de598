#!/usr/bin/env bash
# Writes docs/job_reference.md anew from proto/studio/v1/job.proto.
set -euo pipefail
cd "$(dirname "$0")/../.."
"${BAZEL:-bazel}" build //tools/job_reference:job_reference_md
cat bazel-bin/tools/job_reference/job_reference.md >docs/job_reference.md
