"""Losses of two runs of our trainer, step by step: python compare_losses.py A.json B.json LIMIT. Ends with 1 where the two
differ by more than LIMIT in any of the first 20 steps; LIMIT 0 asks for the same bits."""

import json
import sys


def main() -> None:
    runs = []
    for path in sys.argv[1:3]:
        with open(path) as file:
            runs.append(json.load(file))
    pairs = list(zip(runs[0]["losses"], runs[1]["losses"], strict=True))[:20]
    worst = max(abs(a / b - 1) for a, b in pairs)
    limit = float(sys.argv[3])
    print(f"{len(pairs)} losses: {runs[0]['step']} | {runs[1]['step']}")
    print(f"  first {pairs[0][0]:.6f} | {pairs[0][1]:.6f}, last {pairs[-1][0]:.6f} | {pairs[-1][1]:.6f}")
    print(f"  worst difference {worst:.4%}, limit {limit:.4%}: {'ok' if worst <= limit else 'TOO FAR APART'}")
    sys.exit(0 if worst <= limit else 1)


if __name__ == "__main__":
    main()
