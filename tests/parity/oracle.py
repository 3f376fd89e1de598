"""What the parity scripts share: counting, our programs, batches, and the reference's loss on a flat batch.

The reference is Transformers and PEFT in float32 on the CPU. It sees each segment of a flat batch alone, as a plain
[1, length] input: no padding, no mask, nothing that our flat layout could have in common with it.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable

import torch
import transformers
from safetensors.torch import load_file, save_file

transformers.utils.logging.disable_progress_bar()

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
IGNORED = -100


class ProgramError(Exception):
    """One of our programs ended badly."""


class Checks:
    """Counts what passed. A failure is printed at once and does not stop the script."""

    def __init__(self, name: str):
        self.name, self.passed, self.failed, self.skipped = name, 0, 0, 0

    def check(self, what: str, ok: bool, detail: str = "") -> bool:
        self.passed, self.failed = self.passed + bool(ok), self.failed + (not ok)
        print(f"{'ok  ' if ok else 'FAIL'} {what}{': ' if detail else ''}{detail}", flush=True)
        return bool(ok)

    def at_most(self, what: str, value: float, limit: float) -> bool:
        # `not (value > limit)` would let NaN through.
        return self.check(what, value <= limit, f"{value:.3g} (limit {limit:g})")

    def skip(self, what: str, why: str) -> None:
        self.skipped += 1
        print(f"skip {what}: {why}", flush=True)

    def end(self) -> None:
        print(f"{self.name}: {self.passed} passed, {self.failed} failed, {self.skipped} skipped", flush=True)
        sys.exit(1 if self.failed or not self.passed else 0)


def program(target: str) -> str:
    """Path of a built Bazel target, "worker/trainer:studio-trainer"."""
    path = os.path.join(ROOT, "bazel-bin", target.replace(":", "/"))
    if not os.path.exists(path):
        raise SystemExit(f"{path} is not there: bazel build //{target}")
    return path


def run(*words, stdin: str | None = None, env: dict | None = None) -> str:
    """Runs a program of ours and gives its stdout; what it says on stderr is shown when it fails."""
    result = subprocess.run(
        words, check=False, input=stdin, capture_output=True, text=True, env={**os.environ, **(env or {})}
    )
    if result.returncode != 0:
        raise ProgramError(f"{' '.join(words)} ended with {result.returncode}:\n{result.stderr[-4000:]}")
    return result.stdout


def scratch(name: str) -> str:
    return tempfile.mkdtemp(prefix=f"studio-parity-{name}-")


def example(float32: bool = True) -> tuple[str, str, str]:
    """Folder of the real model, the FAQ as Alpaca rows, the FAQ as chats."""
    lines = run(os.path.join(ROOT, "tools/fetch_example.sh"), *(["float32"] if float32 else [])).splitlines()
    return lines[3] if float32 else lines[0], lines[1], lines[2]


def read_faq(path: str) -> list[dict]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def flat_batch(segments: list[list[int]], learnt_from: list[int]) -> dict[str, torch.Tensor]:
    """Segments laid end to end; of each, the tokens from `learnt_from` on are learnt. Labels are shifted."""
    labels, bounds = [], [0]
    for tokens, start in zip(segments, learnt_from):
        targets = [token if i >= start else IGNORED for i, token in enumerate(tokens)]
        labels += targets[1:] + [IGNORED]
        bounds.append(bounds[-1] + len(tokens))
    return {
        "tokens": torch.tensor([token for tokens in segments for token in tokens]),
        "positions": torch.tensor([i for tokens in segments for i in range(len(tokens))]),
        "labels": torch.tensor(labels),
        "cu_seqlens": torch.tensor(bounds),
    }


def save_batch(batch: dict, path: str) -> str:
    save_file({name: tensor.to(torch.int64).contiguous() for name, tensor in batch.items()}, path)
    return path


def load_steps(path: str) -> list[dict]:
    """What `studio-trainer --dump-batches` wrote: of each step its number, learning rate and micro batches."""
    with open(path) as file:
        steps = [json.loads(line) for line in file]
    for step in steps:
        step["micro_batches"] = [{k: torch.tensor(v) for k, v in batch.items()} for batch in step["micro_batches"]]
    return steps


def segments(batch: dict):
    """(tokens [1, n], labels [n]) of each segment. Says so where positions don't count from 0 in each."""
    bounds = batch["cu_seqlens"].tolist()
    for begin, end in itertools.pairwise(bounds):
        if batch["positions"][begin:end].tolist() != list(range(end - begin)):
            raise SystemExit(f"positions of the segment at {begin} do not count from 0")
        yield batch["tokens"][begin:end][None], batch["labels"][begin:end]


def valid_tokens(batches: list[dict]) -> int:
    return int(sum((batch["labels"] != IGNORED).sum() for batch in batches))


def reference_logits(model, batch: dict) -> torch.Tensor:
    """[T, vocab] in float32."""
    with torch.no_grad():
        return torch.cat([model(input_ids=tokens, use_cache=False).logits[0].float() for tokens, _ in segments(batch)])


def reference_backward(model, batches: list[dict], backward: bool = True) -> float:
    """Mean loss over the valid tokens of all `batches`; gradients are added to the parameters."""
    total, count = 0.0, valid_tokens(batches)
    for batch in batches:
        for tokens, labels in segments(batch):
            learnt = labels != IGNORED
            if not learnt.any():
                continue
            with torch.set_grad_enabled(backward):
                logits = model(input_ids=tokens, use_cache=False).logits[0]
                loss = torch.nn.functional.cross_entropy(logits[learnt], labels[learnt], reduction="sum") / count
            if backward:
                loss.backward()
            total += loss.item()
    return total


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Norm of the difference over the norm, in float64. Two zeros agree."""
    difference, norm = (ours.double() - theirs.double()).norm().item(), theirs.double().norm().item()
    return difference / norm if norm > 0 else difference


def random_adapter(model, folder: str, seed: int, **config):
    """Wraps `model` with a PEFT adapter whose A and B are both random (PEFT's usual B is 0: half of the gradients would
    be zero), writes it to `folder`, and gives the wrapped model."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    lora = LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, init_lora_weights=False, **config)
    wrapped = get_peft_model(model, lora)
    wrapped.save_pretrained(folder)
    return wrapped


def adapter_gradients(wrapped) -> dict[str, torch.Tensor]:
    """By the names that PEFT's adapter_model.safetensors has."""
    return {
        name.replace(".default", ""): parameter.grad
        for name, parameter in wrapped.named_parameters()
        if parameter.requires_grad
    }


def compare_gradients(
    checks: Checks, what: str, ours: dict, theirs: dict, limit: float = 1e-4, exact: Callable[[], dict] | None = None
) -> None:
    """Every tensor within `limit` of the reference's. float32 itself may be no better than that: where `exact` computes
    the gradients in float64, a tensor beyond the limit passes if ours is nearer to those than the reference's is."""
    missing, extra = sorted(set(theirs) - set(ours)), sorted(set(ours) - set(theirs))
    detail = f"missing {missing[:3]}, extra {extra[:3]}" if missing or extra else ""
    if not checks.check(f"{what}: the same {len(theirs)} tensors", not missing and not extra, detail):
        return
    distance = {name: relative(ours[name], theirs[name]) for name in theirs}
    worst = max(distance, key=distance.get)
    title = f"{what}: worst gradient, {worst}"
    beyond = [name for name in theirs if not distance[name] <= limit]
    if not beyond or exact is None:
        checks.at_most(title, distance[worst], limit)
        return
    truth = exact()
    pairs = {name: (relative(ours[name], truth[name]), relative(theirs[name], truth[name])) for name in beyond}
    name = max(beyond, key=lambda name: pairs[name][0] / pairs[name][1])
    detail = (
        f"{distance[worst]:.3g}; from float64 ours {pairs[name][0]:.3g}, the reference {pairs[name][1]:.3g} ({name})"
    )
    nearer = all(mine <= reference for mine, reference in pairs.values())
    checks.check(f"{title}: {len(beyond)} tensors beyond {limit:g}, ours nearer to float64", nearer, detail)


def dump(
    model: str, batch: str, out: str, *options: str, adapter: str = "", full: bool = False
) -> dict[str, torch.Tensor]:
    """tests/parity/dump: our logits, loss and gradients of one batch in float32. `full` trains every weight."""
    words = [program("tests/parity:dump"), "--model", model, "--batch", batch, "--out", out, "--dtype", "float32"]
    run(*words, *options, *(["--adapter", adapter] if adapter else []), *(["--full"] if full else []))
    return load_file(out)


def dumped_gradients(dumped: dict) -> dict[str, torch.Tensor]:
    return {name.removeprefix("grad."): tensor for name, tensor in dumped.items() if name.startswith("grad.")}


def faq_batch(tokenizer, rows: list[dict]) -> dict[str, torch.Tensor]:
    """Questions and answers as the model's chat template writes them; the answers are learnt."""
    texts, starts = [], []
    for row in rows:
        question = [{"role": "user", "content": row["instruction"]}]
        chat = [*question, {"role": "assistant", "content": row["output"]}]
        prompt = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
        text = tokenizer.apply_chat_template(chat, tokenize=False)
        starts.append(len(tokenizer.encode(prompt, add_special_tokens=False)))
        texts.append(tokenizer.encode(text, add_special_tokens=False))
    return flat_batch(texts, starts)
