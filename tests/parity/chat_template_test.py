"""Chat templates: what we render, against Transformers' apply_chat_template.

    python tests/parity/chat_template_test.py

templates/ holds templates of the kinds that models bring (headers, [INST], tools with JSON, plain whitespace control);
the real model's own comes from its folder. A template that refuses a conversation must refuse it in both.
"""

import glob
import itertools
import os
import shutil

import oracle
import text_tool
from jinja2.exceptions import TemplateError
from transformers import AutoTokenizer

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look_up_permit",
            "description": "Status of a permit: \"é\", <b>&amp;</b>, 'single'",
            "parameters": {
                "type": "object",
                "properties": {"number": {"type": "integer", "minimum": 0}, "år": {"type": "number", "default": 1.5}},
                "required": ["number"],
            },
        },
    }
]
CONVERSATIONS = {
    "one question": [{"role": "user", "content": "What is a bygglov?"}],
    "odd spaces": [{"role": "user", "content": "  \n What\tis <b>this</b> & 'that'? 🙂 \n\n"}],
    "with a system prompt": [
        {"role": "system", "content": "Be brief. "},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello  there"},
        {"role": "user", "content": "中文?"},
    ],
    "an answer at the end": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b\n"}],
    "thoughts": [
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "<think>\neasy\n</think>\n\n4"},
        {"role": "user", "content": "and 3 + 3?"},
        {"role": "assistant", "content": "<think>\nalso easy\n</think>\n\n6"},
    ],
    "tool calls": [
        {"role": "user", "content": "How far is permit 7?"},
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [
                {"type": "function", "function": {"name": "look_up_permit", "arguments": {"number": 7, "år": 2.0}}},
                {"type": "function", "function": {"name": "look_up_permit", "arguments": '{"number": 8}'}},
            ],
        },
        {"role": "tool", "content": '{"state": "open"}'},
        {"role": "tool", "content": "none"},
        {"role": "assistant", "content": "Permit 7 is open."},
    ],
    "roles that do not alternate": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
    "an empty answer": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}],
}


def reference(tokenizer, source: str, request: dict) -> tuple[str | None, str]:
    """(text, "") or (None, why the template refuses)."""
    try:
        text = tokenizer.apply_chat_template(
            request["messages"],
            tools=request.get("tools"),
            chat_template=source,
            add_generation_prompt=request["add_generation_prompt"],
            tokenize=False,
        )
    except TemplateError as refusal:  # the template's own raise_exception
        return None, str(refusal)
    return text, ""


def main() -> None:
    checks = oracle.Checks("chat_template_test")
    model, _, _ = oracle.example(float32=False)
    work = oracle.scratch("templates")
    tokenizer = AutoTokenizer.from_pretrained(model)
    sources = {"the model's own": tokenizer.chat_template}
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates")
    for path in sorted(glob.glob(f"{folder}/*.jinja")):
        with open(path, encoding="utf-8") as file:
            sources[os.path.basename(path)] = file.read()
    shown = 0
    for name, source in sources.items():
        ours = text_tool.with_template(model, source, f"{work}/{name}")
        accepted = []
        for what, messages in CONVERSATIONS.items():
            for tools, prompt in itertools.product((None, TOOLS), (False, True)):
                request = {"messages": messages, "add_generation_prompt": prompt, **({"tools": tools} if tools else {})}
                title = f"{name}: {what}{', tools' if tools else ''}{', prompt' if prompt else ''}"
                expected, why = reference(tokenizer, source, request)
                if expected is None:
                    said = text_tool.refusal(ours, request)
                    checks.check(
                        f"{title}: refused by both", said is not None and why in said, f"{why!r}, ours {said!r}"
                    )
                else:
                    accepted.append((title, request, expected))
        for (title, _, expected), text in zip(
            accepted, text_tool.rendered(ours, [request for _, request, _ in accepted])
        ):
            if not checks.check(title, text == expected) and shown < 5:
                shown += 1
                print(f"     ours   {text!r}\n     theirs {expected!r}")
    shutil.rmtree(work)
    checks.end()


if __name__ == "__main__":
    main()
