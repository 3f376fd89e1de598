"""worker/data/tokenize_tool: our ids of texts, and our rendering of conversations."""

import json
import os
import shutil
import subprocess

import oracle


def _answers(arguments: list[str], requests: list) -> list:
    tool = oracle.program("worker/data:tokenize_tool")
    lines = oracle.run(tool, *arguments, stdin="".join(json.dumps(request) + "\n" for request in requests)).splitlines()
    replies = [json.loads(line) for line in lines]
    if len(replies) != len(requests):
        raise SystemExit(f"{tool}: {len(requests)} requests, {len(replies)} answers")
    return replies


def token_ids(model: str, texts: list[str]) -> list[list[int]]:
    return _answers([model], texts)


def rendered(model: str, requests: list[dict]) -> list[str]:
    """Each request: {"messages", "tools"?, "add_generation_prompt"?}."""
    return _answers([model, "--chat"], requests)


def refusal(model: str, request: dict) -> str | None:
    """What the tool says about a conversation that it refuses; None where it renders it."""
    words = [oracle.program("worker/data:tokenize_tool"), model, "--chat"]
    result = subprocess.run(words, check=False, input=json.dumps(request) + "\n", capture_output=True, text=True)
    return None if result.returncode == 0 else result.stderr


def with_template(model: str, source: str, folder: str) -> str:
    """A folder with the model's tokenizer and another chat template."""
    os.makedirs(folder)
    shutil.copy(f"{model}/tokenizer.json", folder)
    with open(f"{model}/tokenizer_config.json", encoding="utf-8") as file:
        config = json.load(file)
    with open(f"{folder}/tokenizer_config.json", "w", encoding="utf-8") as file:
        json.dump({**config, "chat_template": source}, file)
    return folder
