"""worker/data/tokenize_tool as a child that answers one JSON line per JSON line."""

import json

import oracle


def answers(model: str, requests: list[dict]) -> list[dict]:
    tool = oracle.program("worker/data:tokenize_tool")
    lines = oracle.run(tool, model, stdin="".join(json.dumps(request) + "\n" for request in requests)).split("\n")
    replies = [json.loads(line) for line in lines if line]
    if len(replies) != len(requests):
        raise SystemExit(f"{tool}: {len(requests)} requests, {len(replies)} answers")
    return replies
