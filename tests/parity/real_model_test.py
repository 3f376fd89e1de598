"""The real model (SmolLM2-135M-Instruct) on real text, against Transformers and PEFT in float32.

    python tests/parity/real_model_test.py

Logits of FAQ rows and of longer prose within 1e-4; from an adapter that PEFT wrote with random A and B, the loss and
every tensor's gradient within 1e-4.
"""

import shutil

import oracle
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    checks = oracle.Checks("real_model_test")
    folder, faq, _ = oracle.example()
    work = oracle.scratch("real")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", attn_implementation="eager").eval()
    rows = oracle.read_faq(faq)

    # Four short chats and one long row of the answers' prose, so that positions go well beyond a chat's.
    chats = oracle.faq_batch(tokenizer, rows[:4])
    prose = tokenizer.encode(" ".join(row["output"] for row in rows[4:14]), add_special_tokens=False)[:640]
    long = oracle.flat_batch([prose], [0])
    for what, batch in (("four chats", chats), (f"prose of {len(prose)} tokens", long)):
        path = oracle.save_batch(batch, f"{work}/batch.safetensors")
        ours = oracle.dump(folder, path, f"{work}/out.safetensors")
        theirs = oracle.reference_logits(model, batch)
        checks.at_most(f"logits, {what}", (ours["logits"] - theirs).abs().max().item(), 1e-4)
        loss = oracle.reference_backward(model, [batch], backward=False)
        checks.at_most(f"loss, {what}: {loss:.4f}", abs(ours["loss"].item() - loss) / loss, 1e-4)

    for what, seed, config in (
        ("r 16, every linear layer", 1, {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}),
        (
            "rsLoRA r 4, q and v",
            2,
            {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "use_rslora": True},
        ),
    ):
        adapter = f"{work}/adapter-{seed}"
        wrapped = oracle.random_adapter(model, adapter, seed, **config)
        path = oracle.save_batch(chats, f"{work}/batch.safetensors")
        ours = oracle.dump(folder, path, f"{work}/out.safetensors", adapter=adapter)
        loss = oracle.reference_backward(wrapped, [chats])
        checks.at_most(f"adapter {what}: loss {loss:.4f}", abs(ours["loss"].item() - loss) / loss, 1e-4)
        theirs = oracle.adapter_gradients(wrapped)

        def exact(wrapped=wrapped) -> dict:
            wrapped.zero_grad()
            oracle.reference_backward(wrapped.double(), [chats])
            return oracle.adapter_gradients(wrapped)

        # .double() changes the parameters' gradients in place: keep those of float32.
        theirs = {name: gradient.clone() for name, gradient in theirs.items()}
        oracle.compare_gradients(checks, f"adapter {what}", oracle.dumped_gradients(ours), theirs, exact=exact)
        wrapped.float()
        model = wrapped.unload()
    shutil.rmtree(work)
    checks.end()


if __name__ == "__main__":
    main()
