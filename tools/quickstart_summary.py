"""What `make quickstart` prints at its end, and quickstart/summary.json.

    python tools/quickstart_summary.py JOB.json RESULT_DIR BEGAN SUMMARY.json

JOB.json is what `studioctl get JOB -o json` printed, BEGAN the start in seconds since 1970. Ends with 1 where the
held-out loss fell by less than 20 %: then something is wrong, however well the programs ran.
"""

import glob
import json
import os
import re
import sys
import time

LEAST_FALL = 0.20


def snake(value):
    """Protobuf's JSON may name a field tokensPerSecond or tokens_per_second: one form for both."""
    if isinstance(value, dict):
        return {re.sub(r"([A-Z])", lambda m: "_" + m[1].lower(), key): snake(item) for key, item in value.items()}
    return [snake(item) for item in value] if isinstance(value, list) else value


def adapter_folder(result: str) -> str:
    found = glob.glob(f"{result}/**/adapter_config.json", recursive=True)
    if len(found) != 1:
        raise SystemExit(f"quickstart: expected one adapter_config.json under {result}, found {len(found)}")
    return os.path.dirname(found[0])


def main() -> None:
    job, result, began, summary_path = sys.argv[1:]
    with open(job, encoding="utf-8") as file:
        record = snake(json.load(file))
    record = record.get("record", record)
    evaluations = sorted(record.get("evaluations", []), key=lambda e: int(e.get("step", 0)))
    if len(evaluations) < 2:
        raise SystemExit(
            f"quickstart: {job} has {len(evaluations)} evaluations, expected one before and one after training"
        )
    before, after = evaluations[0]["loss"], evaluations[-1]["loss"]
    progress = record["progress"]
    summary = {
        "eval_loss_before": before,
        "eval_loss_after": after,
        "tokens_per_second": progress["tokens_per_second"],
        "peak_memory_bytes": int(progress["peak_memory_bytes"]),
        "adapter_dir": adapter_folder(result),
        "seconds": round(time.time() - float(began), 1),
    }
    with open(summary_path, "w", encoding="utf-8") as file:
        json.dump(summary, file, indent=2)
        file.write("\n")

    fall = 1 - after / before
    lines = [
        "",
        f"Held-out loss  {before:.3f} before, {after:.3f} after ({-fall:+.1%}, {evaluations[-1]['step']} steps)",
    ]
    samples = sorted(record.get("samples", []), key=lambda s: int(s.get("step", 0)))
    if samples:
        prompt = samples[0]["prompt"]
        answers = [s.get("answer", "").strip() for s in samples if s["prompt"] == prompt]
        lines += ["", f"Question       {prompt}", f"Before         {answers[0]}", f"After          {answers[-1]}", ""]
    lines += [
        f"Speed          {summary['tokens_per_second']:.0f} tokens/s",
        f"Peak memory    {summary['peak_memory_bytes'] / 2**30:.2f} GiB",
        f"Adapter        {os.path.relpath(summary['adapter_dir'])}  (PEFT loads it)",
        f"In all         {summary['seconds']:.0f} s, summary in {os.path.relpath(summary_path)}",
    ]
    lines += [f"Note           {note}" for note in record.get("notes", [])]
    lines += [
        "",
        "Next:",
        "  1. Start both again, and keep them:",
        "     quickstart/bin/studio-controller --state-dir quickstart/state/controller &",
        "     quickstart/bin/studio-worker --state-dir quickstart/state/worker --trainer quickstart/bin/studio-trainer &",
        "  2. Train on chats, and follow it:",
        "     quickstart/bin/studioctl submit --follow examples/smollm2_faq_messages.pb.txt",
        "  3. See all jobs, this one too:",
        "     quickstart/bin/studioctl list",
    ]
    print("\n".join(lines))
    if not fall >= LEAST_FALL:
        raise SystemExit(f"quickstart: the held-out loss fell by {fall:.1%}, expected at least {LEAST_FALL:.0%}")


if __name__ == "__main__":
    main()
