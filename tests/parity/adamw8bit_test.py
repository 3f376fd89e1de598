"""Our AdamW8bit against bitsandbytes' on a CPU: thirty steps on random gradients of very different sizes, with weight
decay. Weights, bytes and scales are compared.

    python tests/parity/adamw8bit_test.py
"""

import os
import shutil

import bitsandbytes
import oracle
import torch
from safetensors.torch import load_file, save_file

STEPS = 30


def compare(checks: oracle.Checks, shape: tuple[int, ...], work: str) -> None:
    generator = torch.Generator().manual_seed(shape[0])
    weight = torch.randn(shape, generator=generator)
    size = 10.0 ** torch.randint(-6, 1, (shape[0], 1), generator=generator)
    grads = [torch.randn(shape, generator=generator) * size for _ in range(STEPS)]
    save_file({"w": weight, **{f"g{i}": grad for i, grad in enumerate(grads)}}, f"{work}/in.safetensors")
    library = {"STUDIO_BITSANDBYTES": os.path.dirname(bitsandbytes.__file__), "OMP_NUM_THREADS": "1"}
    oracle.run(
        oracle.program("tests/parity:optimizer_steps"), f"{work}/in.safetensors", f"{work}/out.safetensors", env=library
    )
    ours = load_file(f"{work}/out.safetensors")

    parameter = torch.nn.Parameter(weight.clone())
    optimizer = bitsandbytes.optim.AdamW8bit([parameter], lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for grad in grads:
        parameter.grad = grad.clone()
        optimizer.step()
    state = optimizer.state[parameter]
    wanted = {"w": parameter.data, "w#exp_avg_8bit": state["state1"].float(), "w#exp_avg_absmax": state["absmax1"]}
    wanted |= {"w#exp_avg_sq_8bit": state["state2"].float(), "w#exp_avg_sq_absmax": state["absmax2"]}
    checks.check(f"{shape}: the same tensors", sorted(ours) == sorted(wanted), ", ".join(sorted(ours)))
    for name, tensor in wanted.items():
        apart = int((ours[name] != tensor).sum())
        worst = float((ours[name] - tensor).abs().max())
        checks.check(f"{shape}: {name} to the bit", apart == 0, f"{apart} of {tensor.numel()} differ, by {worst:.3g}")


def main() -> None:
    torch.set_num_threads(1)
    checks = oracle.Checks("adamw8bit_test")
    work = oracle.scratch("adamw8bit")
    for shape in ((64, 64), (57, 101), (300, 1000)):
        compare(checks, shape, work)
    shutil.rmtree(work)
    checks.end()


if __name__ == "__main__":
    main()
