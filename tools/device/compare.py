"""Losses of two runs step by step: python3 compare.py A/summary.json B/summary.json [LIMIT]. Ends with 1 beyond LIMIT."""

import json
import sys


def main() -> None:
    runs = []
    for path in sys.argv[1:3]:
        with open(path) as file:
            runs.append(json.load(file))
    limit = float(sys.argv[3]) if len(sys.argv) > 3 else 0.01
    pairs = list(zip(runs[0]["losses"], runs[1]["losses"], strict=True))
    for i, (a, b) in enumerate(pairs):
        print(f"step {i + 1:3d}  {runs[0]['device']} {a:.5f}  {runs[1]['device']} {b:.5f}  {a / b - 1:+.3%}")
    worst = max(abs(a / b - 1) for a, b in pairs)
    print(f"worst difference of {len(pairs)} losses: {worst:.3%} (limit {limit:.1%})")
    if not worst <= limit:
        sys.exit(1)


if __name__ == "__main__":
    main()
