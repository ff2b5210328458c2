"""The decoder's part of the config.json of a vision-language model, as a decoder would have it.

Pure. Released Qwen2-VL files keep the decoder's fields beside everything else, newer ones and LLaVA
under `text_config`; LLaVA leaves out what transformers assumes of a Llama. Called by
`banyan.models.configuration`.
"""

from typing import Any

from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.families import Family, VisionFamily, architecture_of_model_type, find_family
from banyan.models.json_fields import Fields

# What a LLaVA directory means when its text_config is silent: the shape of Llama 7B.
_LLAMA_SHAPE = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "vocab_size": 32000,
}
_SHARED = ("dtype", "torch_dtype", "eos_token_id", "bos_token_id", "tie_word_embeddings")
# What Qwen2-VL assumes of a head of 128.
_QWEN_SECTIONS = (16, 24, 24)


def decoder_fields(fields: Fields, family: VisionFamily) -> tuple[Fields, Family]:
    """Give the decoder's fields and its family.

    Raises:
        UnsupportedModelError: a decoder that is not known here.
    """
    inner = fields.nested("text_config")
    if inner is None:
        inner = fields if family.decoder is not None else Fields({}, fields.origin)
    decoder = _decoder_family(inner, family)
    values: dict[str, Any] = {name: fields.values[name] for name in _SHARED if fields.has(name)}
    values |= {name: value for name, value in inner.values.items() if value is not None}
    if decoder.model_type == "llama":
        values = _LLAMA_SHAPE | values
    # Files of both ages say it in one of two places.
    values["tie_word_embeddings"] = any(
        part.flag("tie_word_embeddings", False) for part in (fields, inner)
    )
    for name in ("rope_scaling", "rope_parameters"):
        if isinstance(values.get(name), dict):
            values[name] = _plain_rope(values[name])
    return Fields(values, inner.origin), decoder


def _decoder_family(inner: Fields, family: VisionFamily) -> Family:
    if family.decoder is not None:
        found = find_family(family.decoder)
        assert found is not None, "a family names a decoder that is known"
        return found
    model_type = inner.text("model_type", "llama")
    found = find_family(architecture_of_model_type(model_type) or "")
    if found is None or found.experts is not None:
        raise UnsupportedModelError(
            f"{inner.origin} asks for a decoder of type {model_type!r} behind the images; known "
            "are llama, mistral, qwen2 and qwen3"
        )
    return found


def _plain_rope(rope: dict[str, Any]) -> dict[str, Any]:
    """Three positions per token are no scaling: "mrope" means the default one."""
    return {
        name: "default" if name in {"type", "rope_type"} and value == "mrope" else value
        for name, value in rope.items()
    }


def read_sections(fields: Fields, *, head_dim: int) -> tuple[int, ...]:
    """Read how many pairs of a head are turned by frame, by row and by column.

    Raises:
        ModelError: they are not three, or do not fill half a head.
    """
    rope = fields.nested("rope_parameters") or fields.nested("rope_scaling")
    sections = rope.integers("mrope_section") if rope is not None else ()
    sections = sections or _QWEN_SECTIONS
    if len(sections) != 3 or min(sections) < 0 or sum(sections) != head_dim // 2:
        raise ModelError(
            f"{fields.origin}: mrope_section {list(sections)} must be three sizes that add up to "
            f"half the head, {head_dim // 2}"
        )
    return sections
