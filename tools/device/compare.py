"""Losses of two runs, at the steps that both have.

python3 compare.py A/summary.json B/summary.json [LIMIT]    Ends with 1 where a loss differs by more than LIMIT (0.01).
"""

import json
import sys


def main() -> None:
    runs = []
    for path in sys.argv[1:3]:
        with open(path) as file:
            runs.append(json.load(file))
    limit = float(sys.argv[3]) if len(sys.argv) > 3 else 0.01
    steps = [dict(enumerate(run["losses"], run["first_step"] + 1)) for run in runs]
    both = sorted(steps[0].keys() & steps[1].keys())
    for step in both:
        a, b = steps[0][step], steps[1][step]
        print(f"step {step:3d}  {runs[0]['device']} {a:.5f}  {runs[1]['device']} {b:.5f}  {a / b - 1:+.4%}")
    worst = max((abs(steps[0][step] / steps[1][step] - 1) for step in both), default=float("nan"))
    print(f"worst difference of {len(both)} losses: {worst:.5%} (limit {limit:.2%})")
    if not worst <= limit:
        sys.exit(1)


if __name__ == "__main__":
    main()
