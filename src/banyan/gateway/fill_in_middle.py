"""Prompts that ask for what stands between two texts, for models that were trained to fill it in.

Owns the spellings of the known families of code models. Every one marks the text before, the text
after and the place to fill with special tokens of its own.
"""

from banyan.gateway.backend import TextModel
from banyan.gateway.errors import refuse

_BEFORE, _AFTER = "before", "after"

# Marks and texts in the order of the prompt; the middle follows at its end.
_SPELLINGS: tuple[tuple[str, ...], ...] = (
    # Qwen2.5-Coder and Qwen3, CodeGemma.
    ("<|fim_prefix|>", _BEFORE, "<|fim_suffix|>", _AFTER, "<|fim_middle|>"),
    # StarCoder, Granite Code.
    ("<fim_prefix>", _BEFORE, "<fim_suffix>", _AFTER, "<fim_middle>"),
    # DeepSeek-Coder: U+FF5C is a full-width bar, U+2581 the mark of a space.
    (
        "<\uff5cfim\u2581begin\uff5c>",
        _BEFORE,
        "<\uff5cfim\u2581hole\uff5c>",
        _AFTER,
        "<\uff5cfim\u2581end\uff5c>",
    ),
    # Code Llama.
    ("\u2581<PRE>", _BEFORE, "\u2581<SUF>", _AFTER, "\u2581<MID>"),
    # Codestral: what follows comes first.
    ("[SUFFIX]", _AFTER, "[PREFIX]", _BEFORE),
)


def middle_prompt(text: TextModel, *, before: str, after: str) -> list[int]:
    """Return the tokens of a prompt that asks for the middle.

    Raises:
        ApiError: 400, the model has no tokens for it.
    """
    for spelling in _SPELLINGS:
        ids = {piece: text.token_id(piece) for piece in spelling if piece not in {_BEFORE, _AFTER}}
        if None not in ids.values():
            texts = {_BEFORE: before, _AFTER: after}
            # What the tokenizer puts around any prompt, such as a token of the beginning.
            tokens = text.encode("")
            for piece in spelling:
                token_id = ids.get(piece)
                if token_id is None:
                    tokens += text.encode(texts[piece], add_special_tokens=False)
                else:
                    tokens.append(token_id)
            return tokens
    raise refuse(
        "suffix needs a model that can fill in a middle, and this one has no tokens for it; "
        "leave it out",
        parameter="suffix",
        code="unsupported_parameter",
    )
