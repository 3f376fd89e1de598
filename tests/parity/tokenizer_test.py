"""Token ids of the real model's tokenizer, against Transformers, on text that tokenizers get wrong.

python tests/parity/tokenizer_test.py
"""

import random

import oracle
import text_tool
from transformers import AutoTokenizer

CORPUS = [
    "",
    " ",
    "a",
    "\n",
    "\r\n",
    "Hello, world!",
    "  two spaces  before and after  ",
    "tab\tseparated\t\tvalues\n\n\n   indented\n",
    "no\u00a0break, thin\u2009space, zero\u200bwidth, ideographic\u3000space, line\u2028separator, \ufeffBOM, soft\u00adhyphen",
    "1234567890 3.14159 1,000,000 0x7FFF 1e-8 ½ ²³ ٣٤٥ १२३ 五十",
    "2026-11-24T15:43:25Z, +46 42 123 45 67, 25,000-50,000 SEK",
    "it's we're I'll they'd you've I'M WE'LL 'quoted' ‘curly’ “quotes” l'été",
    "emoji 🙂🎉 family 👨‍👩‍👧‍👦 flag 🇸🇪 skin 👍🏽 keycap 1️⃣ heart ❤️ and text",
    "中文分词没有空格。日本語のひらがなとカタカナ、漢字。한국어 문장입니다.",
    "Русский текст, ελληνικά, עברית, العربية, हिन्दी, ไทย, Tiếng Việt, Åäö ÅÄÖ",
    "combining: e\u0301 n\u0303 \u0301alone, ligature ﬁ, math 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ∑∫√∞ ≠ ≤",
    "Zalgo: h̷̢̛e̴̡͝l̵̨̕l̶̡͠o̸̧͝",
    "def f(x: int) -> int:\n    return x ** 2  # squared\n\n\nclass A:\n\tpass\n",
    "#include <vector>\nint main() { std::vector<int> v{1, 2}; return v[0] != 1 ? -1 : 0; }\n",
    'SELECT * FROM t WHERE a <= 3 AND b LIKE \'%x%\'; {"k": [1, null, true]} <div class="x">&nbsp;</div>',
    "https://example.org/a/b?c=d&e=%20f#g user@example.org C:\\dir\\file.txt ../../x ~/.bashrc",
    "<|im_start|>user\nWhat is this?<|im_end|>\n<|im_start|>assistant\n",
    "text<|im_end|>glued<|endoftext|> <|im_start|><|im_start|> <| im_start |> <|im_start",
    "a" * 500,
    " " * 200 + "x" + "\n" * 50,
    "=" * 80 + "\n" + "-" * 33 + "*" * 7 + "!?" * 20,
    "\x00\x01\x02\x1b[0m\x7f control characters",
    "\U0001f9ff\U000e0041\U0010ffff\ue000 unassigned and private",
    "CamelCaseIdentifiers snake_case_names SCREAMING_SNAKE kebab-case-names mixedCASE123abc",
]


def main() -> None:
    checks = oracle.Checks("tokenizer_test")
    model, faq, _ = oracle.example(float32=False)
    reference = AutoTokenizer.from_pretrained(model)
    texts = list(CORPUS)
    texts += [text for row in oracle.read_faq(faq) for text in (row["instruction"], row["output"])]
    # Random strings over alphabets that meet at awkward places.
    draw = random.Random(5)
    alphabet = "aZ09 \n\t.,'’éß中の한🙂👍🏽\u0301\u200d_<|>/\\\u00a0"
    texts += ["".join(draw.choice(alphabet) for _ in range(draw.randrange(1, 60))) for _ in range(500)]
    wrong = 0
    for text, ids in zip(texts, text_tool.token_ids(model, texts)):
        expected = reference.encode(text, add_special_tokens=False)
        if ids != expected:
            wrong += 1
            if wrong <= 5:
                checks.check(f"ids of {text[:60]!r}", False, f"{ids[:20]} instead of {expected[:20]}")
    checks.check(f"ids of {len(texts)} texts are the reference's", wrong == 0, f"{wrong} differ" if wrong else "")
    checks.end()


if __name__ == "__main__":
    main()
