"""Ranks through studioctl, every program as it ships: SmolLM2-135M-Instruct on the FAQ over 1, 2 and 4 CPU ranks (Gloo)
of one worker, with the same global batch, float32.

    python tests/parity/ranks_test.py [--steps 20]

The held-out loss after every fifth step, and the last step's training loss, agree with one rank's within 1e-4 relative, LoRA
and full fine-tuning. Then a rank is killed in the middle: the others are gone within 5 s, the job goes on from its
checkpoint, and its losses are to the bit those of the run that nobody killed.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time

import oracle

RANKS = 4
GLOBAL_BATCH = 4
EVALUATE_EVERY = 5
DEADLINE_SECONDS = 1200
KILLED_WITHIN_SECONDS = 5

JOB = """
name: "ranks"
dataset {{ train_dataframe: "{data}" validation_size: 0.01 packing: false }}
tokenizer {{ max_length: 64 }}
architecture {{ llm_backbone: "{model}" backbone_dtype: FLOAT32 }}
training {{ batch_size: 1 schedule: COSINE warmup_steps: 3 weight_decay: 0.01 eval_steps: {every} save_steps: 1000000 }}
prediction {{ samples: false }}
environment {{ mixed_precision_dtype: FLOAT32 seed: 11 }}
resources {{ backend: CPU }}
"""
MODES = {
    "lora": ["training.lora=true", "training.learning_rate=1e-3"],
    "full": ["training.lora=false", "training.learning_rate=1e-4"],
}


class Cluster:
    """A controller and a worker with RANKS CPU ranks, in processes of their own."""

    def __init__(self, folder: str):
        self.folder, self.processes = folder, []
        listening = ["--listen", "127.0.0.1:0", "--transfer-listen", "127.0.0.1:0"]
        self.start("controller:studio-controller", *listening, "--state-dir", f"{folder}/controller")
        self.address = self.await_line("controller", r"listening on (127\.0\.0\.1:[0-9]+)")
        programs = ["--trainer", oracle.program("worker/trainer:studio-trainer")]
        programs += ["--dataprep", oracle.program("worker/data:studio-dataprep")]
        state = ["--state-dir", f"{folder}/worker", "--cpu-ranks", str(RANKS)]
        self.start("worker/agent:studio-worker", "--controller", self.address, *state, *programs)

    def start(self, target: str, *words: str) -> None:
        name = target.split("/")[0].split(":")[0]
        with open(f"{self.folder}/{name}.out", "w") as out, open(f"{self.folder}/{name}.log", "w") as log:
            self.processes.append(subprocess.Popen([oracle.program(target), *words], stdout=out, stderr=log))

    def await_line(self, name: str, pattern: str) -> str:
        for _ in range(600):
            with open(f"{self.folder}/{name}.out") as file:
                found = re.search(pattern, file.read())
            if found:
                return found.group(1)
            time.sleep(0.1)  # between two looks at a condition; lint: allowed
        raise oracle.ProgramError(f"{name} never said {pattern}")

    def ctl(self, *words: str) -> str:
        return oracle.run(oracle.program("studioctl:studioctl"), *words, "--controller", self.address)

    def submit(self, ranks: int, steps: int, sets: list[str]) -> str:
        sets = [f"resources.devices={ranks}", f"training.grad_accumulation={GLOBAL_BATCH // ranks}", *sets]
        sets = [f"training.max_steps={steps}", f"environment.number_of_workers={RANKS // ranks}", *sets]
        return self.ctl(
            "submit", f"{self.folder}/job.pb.txt", "-o", "name", *[w for s in sets for w in ("--set", s)]
        ).split()[0]

    def get(self, job: str) -> dict:
        return json.loads(self.ctl("get", job, "-o", "json"))

    def await_job(self, job: str, done) -> dict:
        """The job's record once `done` says so of it, or once it has ended."""
        for _ in range(DEADLINE_SECONDS):
            record = self.get(job)
            if done(record) or record.get("state") in ("SUCCEEDED", "FAILED", "CANCELLED"):
                return record
            time.sleep(1)  # between two looks at a condition; lint: allowed
        raise oracle.ProgramError(f"{job} took longer than {DEADLINE_SECONDS} s: {self.get(job)}")

    def train(self, ranks: int, steps: int, sets: list[str]) -> dict:
        record = self.await_job(self.submit(ranks, steps, sets), lambda _: False)
        if record["state"] != "SUCCEEDED":
            raise oracle.ProgramError(f"{ranks} ranks: {record}")
        return record

    def trainers(self) -> dict[int, int]:
        """Ranks that run now: pid by rank."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{pid}/environ") as environ:
                    parent, zombie = re.search(r"\) (.) (\d+)", stat.read()).group(2, 1)
                    rank = re.search(r"(?:^|\0)RANK=(\d+)\0", environ.read())
                if int(parent) == self.processes[1].pid and rank and zombie != "Z":
                    found[int(rank.group(1))] = int(pid)
        return found

    def end(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            process.wait(60)


def losses(record: dict) -> list[float]:
    """Held-out, before the first step and along the way; then the last step's in training."""
    return [evaluation["loss"] for evaluation in record["evaluations"]] + [record["progress"]["loss"]]


def compare(checks: oracle.Checks, cluster: Cluster, steps: int, mode: str) -> None:
    one = losses(cluster.train(1, steps, MODES[mode]))
    checks.check(f"{mode}: one rank learns", len(one) == steps // EVALUATE_EVERY + 2 and one[-2] < one[0])
    for ranks in (2, RANKS):
        began = time.monotonic()
        many = losses(cluster.train(ranks, steps, MODES[mode]))
        same = len(many) == len(one)
        worst = max(abs(a / b - 1) for a, b in zip(many, one, strict=True)) if same else float("nan")
        what = f"{mode}: {ranks} ranks, {steps} steps, held-out loss {one[0]:.4f} to {one[-2]:.4f}, worst relative difference"
        checks.at_most(what, worst, 1e-4)
        print(f"     {time.monotonic() - began:.0f} s", flush=True)


def kill_a_rank(checks: oracle.Checks, cluster: Cluster, steps: int) -> None:
    sets = [*MODES["lora"], "training.save_steps=2"]
    reference = losses(cluster.train(2, steps, sets))
    job = cluster.submit(2, steps, sets)
    cluster.await_job(job, lambda record: int(record.get("checkpoint", {}).get("step", 0)) >= steps // 3)
    ranks = cluster.trainers()
    if not checks.check("kill: both ranks run", sorted(ranks) == [0, 1], str(ranks)):
        return
    began = time.monotonic()
    os.kill(ranks[1], signal.SIGKILL)
    while os.path.exists(f"/proc/{ranks[0]}") and time.monotonic() - began < 60:
        time.sleep(0.01)  # between two looks at a condition; lint: allowed
    checks.at_most("kill: seconds until the other rank is gone", time.monotonic() - began, KILLED_WITHIN_SECONDS)
    record = cluster.await_job(job, lambda _: False)
    attempts = record["attempts"]
    checks.check("kill: it succeeds in a second attempt", record["state"] == "SUCCEEDED" and len(attempts) == 2)
    checks.check("kill: the attempt names rank 1", "rank 1" in attempts[0]["message"], attempts[0]["message"])
    resumed = int(attempts[-1].get("start_step", 0))
    checks.check("kill: it goes on from a checkpoint", resumed >= steps // 3, f"step {resumed}")
    checks.check("kill: the losses are to the bit those of a run that nobody killed", losses(record) == reference)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    checks = oracle.Checks("ranks_test")
    model, data, _ = oracle.example()
    folder = oracle.scratch("ranks")
    with open(f"{folder}/job.pb.txt", "w") as file:
        file.write(JOB.format(data=data, model=model, every=EVALUATE_EVERY))
    cluster = Cluster(folder)
    try:
        compare(checks, cluster, arguments.steps, "lora")
        kill_a_rank(checks, cluster, arguments.steps)
        compare(checks, cluster, arguments.steps, "full")
    finally:
        cluster.end()
    shutil.rmtree(folder)
    checks.end()


if __name__ == "__main__":
    main()
