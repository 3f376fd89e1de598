"""Where one step's milliseconds go, from a trace of `studio-trainer --profile`: python kernel_table.py TRACE.json [TOP]"""

import json
import re
import sys
from collections import defaultdict

# The first that matches a kernel's name.
KINDS = [
    ("attention", r"sdpa|flash_|fmha|cudnn|dot_do_o"),
    ("norm", r"rms"),
    ("rotary embedding", r"rope"),
    ("SwiGLU", r"glu|silu_|gelu_"),
    ("cross entropy", r"cross_entropy"),
    ("narrow products", r"nvjet_sm90_ts[a-z]_(32x64|64x32|64x64|64x128|128x64)_|splitK"),
    ("products", r"gemm|nvjet|cublas|xmma|cutlass|splitK|gemv"),
    ("optimizer and clipping", r"adam|multi_tensor|foreach|squares"),
    ("adapters into borders", r"scaled_copies"),
    ("copies", r"memcpy|memset|copy|index|gather|scatter|fill"),
]


def kind(name: str) -> str:
    return next((label for label, pattern in KINDS if re.search(pattern, name, re.IGNORECASE)), "other")


def table(path: str, top: int = 20) -> tuple[dict[str, float], str]:
    """Milliseconds by kind, with "idle" for the time in which no kernel ran; and the same as text with the `top`
    kernels by name."""
    with open(path) as file:
        events = json.load(file)["traceEvents"]
    kernels = [e for e in events if e.get("ph") == "X" and e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    if not kernels:
        return {}, f"{path}: no kernel in the trace"
    names: dict[str, list[float]] = defaultdict(list)
    for event in kernels:
        names[event["name"]].append(event["dur"] / 1e3)
    kinds: dict[str, float] = defaultdict(float)
    for name, times in names.items():
        kinds[kind(name)] += sum(times)
    busy, end = 0.0, 0.0
    gaps: dict[str, float] = defaultdict(float)
    for event in sorted(kernels, key=lambda e: e["ts"]):
        begin, last = max(event["ts"], end), event["ts"] + event["dur"]
        if end > 0:
            gaps[event["name"]] += max(0.0, event["ts"] - end) / 1e3
        busy += max(0.0, last - begin)
        end = max(end, last)
    first = min(e["ts"] for e in kernels)
    kinds["idle"] = (end - first - busy) / 1e3
    lines = [f"{(end - first) / 1e3:.1f} ms from the first kernel to the last, {len(kernels)} kernels"]
    lines += [f"  {ms:8.2f} ms  {label}" for label, ms in sorted(kinds.items(), key=lambda x: -x[1])]
    lines.append("idle before (ms):")
    lines += [f"  {ms:8.2f} ms  {name[:150]}" for name, ms in sorted(gaps.items(), key=lambda x: -x[1])[:8]]
    lines.append(f"the {top} that take longest:")
    for name, times in sorted(names.items(), key=lambda x: -sum(x[1]))[:top]:
        lines.append(f"  {sum(times):8.2f} ms  x{len(times):<5d} {kind(name):12s} {name[:150]}")
    return dict(kinds), "\n".join(lines)


if __name__ == "__main__":
    print(table(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 40)[1])
