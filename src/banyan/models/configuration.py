"""The configuration of a model, read from config.json.

Owns the frozen description that the architectures are built from. Imports no torch: the process
that serves from cached graphs reads it too. Called by `banyan.models.loading`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.classifier import Classifier, read_classifier
from banyan.models.experts import Experts, read_experts
from banyan.models.families import (
    LABELS_ENDING,
    SUPPORTED_ARCHITECTURES,
    EncoderFamily,
    Family,
    VisionFamily,
    Window,
    architecture_of_model_type,
    find_encoder_family,
    find_family,
    find_vision_family,
)
from banyan.models.json_fields import Fields
from banyan.models.latent import LatentShape, read_latent
from banyan.models.rope import Rope, read_rope
from banyan.models.vision_fields import decoder_fields, read_sections


@dataclass(frozen=True, slots=True)
class ModelConfiguration:
    """A decoder: shapes, norms, rope, windows and experts.

    Attributes:
        sliding_windows: for each layer the number of positions it sees; 0 means all.
        experts: None for a dense model.
        checkpoint_dtype: what config.json says the weights are stored as, or None.
        classifier: the labels of a model that scores texts.
        output: what a step gives for the rows asked for: the logits of the vocabulary, the hidden
            states behind the last norm, or the scores of the labels.
        sees_images: a step also takes rows that stand in for embeddings of its tokens.
        latent: sizes of latent attention, where that is what the layers do; `head_dim` is then the
            part of a head that is rotated, and the cache has one head.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position_embeddings: int
    rope: Rope
    norm_epsilon: float
    tie_embeddings: bool
    query_key_value_bias: bool
    attention_output_bias: bool
    feed_forward_bias: bool
    query_key_norm: bool
    sliding_windows: tuple[int, ...]
    experts: Experts | None
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    checkpoint_dtype: str | None
    classifier: Classifier | None = None
    output: Literal["logits", "hidden", "scores"] = "logits"
    sees_images: bool = False
    latent: LatentShape | None = None

    @property
    def cached_size(self) -> int:
        """Numbers in one cached row of a head."""
        return self.head_dim if self.latent is None else self.latent.cached_size

    @property
    def caches_values(self) -> bool:
        """Whether values are cached beside keys, not as parts of them."""
        return self.latent is None

    def is_sparse(self, layer: int) -> bool:
        """Tell whether the feed-forward block of a layer is a mixture of experts."""
        return self.experts is not None and self.experts.sparse_layers[layer]


@dataclass(frozen=True, slots=True)
class EncoderConfiguration:
    """An encoder of the BERT family: absolute positions, norms after each block.

    Attributes:
        activation: "gelu" (exact) or "gelu_tanh" (the approximation).
        weight_prefix: what the names of its weights begin with, unless the encoder stands alone.
        first_position: row of the position table that the first token gets.
        head: how the head for labels is built, None without one.
        classifier: the labels, where there is a head.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    max_position_embeddings: int
    num_token_types: int
    norm_epsilon: float
    activation: str
    checkpoint_dtype: str | None
    weight_prefix: str = "bert."
    first_position: int = 0
    head: Literal["bert", "roberta"] | None = None
    classifier: Classifier | None = None

    @property
    def max_tokens(self) -> int:
        """Longest text that has a row of the position table for each token."""
        return self.max_position_embeddings - self.first_position

    @property
    def head_dim(self) -> int:
        """Size of one attention head."""
        return self.hidden_size // self.num_heads


def read_configuration(directory: Path) -> ModelConfiguration | EncoderConfiguration:
    """Read `config.json` of a model directory.

    Raises:
        UnsupportedModelError: an architecture, rope or activation not known here.
        ModelError: the file is missing, damaged or contradicts itself.
    """
    return read_configuration_file(directory / "config.json")


def read_configuration_file(path: Path) -> ModelConfiguration | EncoderConfiguration:
    """Read a `config.json`, whatever it is called; raises as `read_configuration`."""
    fields = Fields.read(path)
    architecture = _architecture(fields)
    encoder = find_encoder_family(architecture)
    if encoder is not None:
        return _read_encoder(fields, architecture, encoder)
    vision = find_vision_family(architecture)
    if vision is not None:
        return _read_seeing_decoder(fields, architecture, vision)
    return read_decoder(fields, architecture)


def read_decoder(fields: Fields, architecture: str) -> ModelConfiguration:
    """Read the fields of a decoder of an architecture; raises as `read_configuration`."""
    family = find_family(architecture)
    if family is None:
        raise UnsupportedModelError(
            f"{fields.origin} asks for the architecture {architecture!r}; known are "
            f"{', '.join(SUPPORTED_ARCHITECTURES)}"
        )
    return _read_decoder(fields, architecture, family)


def _architecture(fields: Fields) -> str:
    if names := fields.texts("architectures"):
        return names[0]
    if not fields.has("model_type"):
        raise ModelError(
            f"{fields.origin} names no architecture; it needs 'architectures' or 'model_type'"
        )
    model_type = fields.text("model_type")
    return architecture_of_model_type(model_type) or model_type


def _read_decoder(fields: Fields, architecture: str, family: Family) -> ModelConfiguration:
    activation = fields.text("hidden_act", "silu")
    if activation not in {"silu", "swish"}:
        raise UnsupportedModelError(
            f"{fields.origin} asks for the activation {activation!r}; supported is silu"
        )
    if not fields.flag("is_causal", True):
        raise UnsupportedModelError(
            f"{fields.origin} asks for tokens that see later ones (is_causal false); supported "
            "are decoders whose tokens see only what is before them"
        )
    num_layers = fields.integer("num_hidden_layers")
    latent = read_latent(fields) if family.is_latent else None
    num_heads = fields.integer("num_attention_heads")
    attention_bias = fields.flag("attention_bias", False)
    bos_token_ids = fields.integers("bos_token_id")
    classifier = read_classifier(fields) if architecture.endswith(LABELS_ENDING) else None
    return ModelConfiguration(
        architecture=architecture,
        vocab_size=fields.integer("vocab_size"),
        hidden_size=fields.integer("hidden_size"),
        intermediate_size=fields.integer("intermediate_size"),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=_num_kv_heads(fields, num_heads) if latent is None else 1,
        head_dim=_head_dim(fields, num_heads) if latent is None else latent.rotary_size,
        max_position_embeddings=fields.integer("max_position_embeddings"),
        rope=read_rope(fields, default_theta=family.rope_theta),
        norm_epsilon=fields.number("rms_norm_eps", family.norm_epsilon),
        tie_embeddings=fields.flag("tie_word_embeddings", False),
        query_key_value_bias=family.query_key_value_bias or attention_bias,
        attention_output_bias=attention_bias and not family.query_key_value_bias,
        feed_forward_bias=fields.flag("mlp_bias", False),
        query_key_norm=family.query_key_norm,
        sliding_windows=_sliding_windows(fields, family, num_layers),
        experts=read_experts(fields, family, num_layers),
        eos_token_ids=fields.integers("eos_token_id"),
        bos_token_id=bos_token_ids[0] if bos_token_ids else None,
        checkpoint_dtype=_checkpoint_dtype(fields),
        classifier=classifier,
        output="logits" if classifier is None else "scores",
        latent=latent,
    )


def _read_seeing_decoder(
    fields: Fields, architecture: str, vision: VisionFamily
) -> ModelConfiguration:
    inner, family = decoder_fields(fields, vision)
    decoder = replace(_read_decoder(inner, architecture, family), sees_images=True)
    if not vision.grid_positions:
        return decoder
    sections = read_sections(inner, head_dim=decoder.head_dim)
    return replace(decoder, rope=replace(decoder.rope, sections=sections))


def _num_kv_heads(fields: Fields, num_heads: int) -> int:
    num_kv_heads = fields.integer("num_key_value_heads", num_heads)
    if num_heads % num_kv_heads != 0:
        raise ModelError(
            f"{fields.origin}: num_attention_heads {num_heads} must be a multiple of "
            f"num_key_value_heads {num_kv_heads}"
        )
    return num_kv_heads


def _head_dim(fields: Fields, num_heads: int) -> int:
    hidden_size = fields.integer("hidden_size")
    if not fields.has("head_dim") and hidden_size % num_heads != 0:
        raise ModelError(
            f"{fields.origin}: hidden_size {hidden_size} must be a multiple of "
            f"num_attention_heads {num_heads}"
        )
    head_dim = fields.integer("head_dim", hidden_size // num_heads)
    if head_dim % 2 != 0:
        raise UnsupportedModelError(
            f"{fields.origin}: head_dim {head_dim} is odd; the rotary embedding needs an even one"
        )
    return head_dim


def _sliding_windows(fields: Fields, family: Family, num_layers: int) -> tuple[int, ...]:
    everywhere = (0,) * num_layers
    is_asked = fields.flag("use_sliding_window", False) or not family.window_needs_flag
    if family.window is Window.NEVER or not is_asked or not fields.has("sliding_window"):
        return everywhere
    window = fields.integer("sliding_window")
    if family.window is Window.EVERY_LAYER:
        return (window,) * num_layers
    if kinds := fields.texts("layer_types"):
        return _windows_by_kind(fields, kinds, window, num_layers)
    first = fields.integer("max_window_layers", 28, minimum=0)
    return tuple(window if layer >= first else 0 for layer in range(num_layers))


def _windows_by_kind(
    fields: Fields, kinds: tuple[str, ...], window: int, num_layers: int
) -> tuple[int, ...]:
    windows = {"full_attention": 0, "sliding_attention": window}
    unknown = [kind for kind in kinds if kind not in windows]
    if unknown:
        raise UnsupportedModelError(
            f"{fields.origin} asks for layers of type {unknown[0]!r}; supported are "
            f"{', '.join(windows)}"
        )
    if len(kinds) != num_layers:
        raise ModelError(
            f"{fields.origin}: layer_types names {len(kinds)} layers, num_hidden_layers says "
            f"{num_layers}"
        )
    return tuple(windows[kind] for kind in kinds)


def _checkpoint_dtype(fields: Fields) -> str | None:
    name = "dtype" if fields.has("dtype") else "torch_dtype"
    return fields.text(name).removeprefix("torch.") if fields.has(name) else None


_ENCODER_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def _read_encoder(fields: Fields, architecture: str, family: EncoderFamily) -> EncoderConfiguration:
    positions = fields.text("position_embedding_type", "absolute")
    if positions != "absolute":
        raise UnsupportedModelError(
            f"{fields.origin} asks for {positions!r} position embeddings; supported is 'absolute'"
        )
    activation = fields.text("hidden_act", "gelu")
    if activation not in _ENCODER_ACTIVATIONS:
        raise UnsupportedModelError(
            f"{fields.origin} asks for the activation {activation!r}; supported are "
            f"{', '.join(_ENCODER_ACTIVATIONS)}"
        )
    hidden_size = fields.integer("hidden_size")
    num_heads = fields.integer("num_attention_heads")
    if hidden_size % num_heads != 0:
        raise ModelError(
            f"{fields.origin}: hidden_size {hidden_size} must be a multiple of "
            f"num_attention_heads {num_heads}"
        )
    has_labels = architecture.endswith(LABELS_ENDING)
    return EncoderConfiguration(
        architecture=architecture,
        vocab_size=fields.integer("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=fields.integer("intermediate_size"),
        num_layers=fields.integer("num_hidden_layers"),
        num_heads=num_heads,
        max_position_embeddings=fields.integer("max_position_embeddings"),
        num_token_types=fields.integer("type_vocab_size", 2),
        norm_epsilon=fields.number("layer_norm_eps", 1e-12),
        activation=_ENCODER_ACTIVATIONS[activation],
        checkpoint_dtype=_checkpoint_dtype(fields),
        weight_prefix=family.prefix,
        first_position=_first_position(fields) if family.counts_from_padding else 0,
        head=family.head if has_labels else None,
        classifier=read_classifier(fields) if has_labels else None,
    )


def _first_position(fields: Fields) -> int:
    """Give the first used row of a position table: the one behind the padding token's."""
    padding = fields.integer("pad_token_id", 1, minimum=0)
    num_rows = fields.integer("max_position_embeddings")
    if padding + 1 >= num_rows:
        raise ModelError(
            f"{fields.origin}: pad_token_id {padding} leaves none of the {num_rows} position "
            "embeddings"
        )
    return padding + 1
