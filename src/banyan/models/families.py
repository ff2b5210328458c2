"""The model families we know, as data.

One dense decoder and one mixture of experts serve all of them; a family says in which few points
it differs. A new family of the same shape is one more row here.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Literal


class Window(Enum):
    """Which layers of a family look back over a sliding window only."""

    NEVER = "never"
    EVERY_LAYER = "every layer"
    BY_LAYER = "by layer"


@dataclass(frozen=True, slots=True)
class ExpertNames:
    """How the checkpoint names a sparse feed-forward block and the three matrices of an expert."""

    block: str
    gate: str
    up: str
    down: str


@dataclass(frozen=True, slots=True)
class Family:
    """Where an architecture differs from the others.

    Attributes:
        architecture: the name in `architectures` of config.json.
        model_type: the name in `model_type`, used when `architectures` is absent.
        query_key_value_bias: True when always there; False when only `attention_bias` asks for it.
        query_key_norm: heads of queries and keys are normalised before the rotation.
        window: which layers use `sliding_window`.
        window_needs_flag: the window counts only with `use_sliding_window`.
        experts: names of the sparse block, or None for a dense family.
        expert_scores: what the choice of experts goes by, see `experts.Routing`.
        is_latent: multi-head latent attention.
        always_normalise: the weights of the chosen experts always sum to one.
        rope_theta: base of the rope when config.json does not say.
        norm_epsilon: epsilon of the norms when config.json does not say.
    """

    architecture: str
    model_type: str
    query_key_value_bias: bool = False
    query_key_norm: bool = False
    window: Window = Window.NEVER
    window_needs_flag: bool = False
    experts: ExpertNames | None = None
    expert_scores: Literal["softmax", "sigmoid"] = "softmax"
    is_latent: bool = False
    always_normalise: bool = False
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-6


DECODER_FAMILIES = (
    Family("LlamaForCausalLM", "llama"),
    Family("MistralForCausalLM", "mistral", window=Window.EVERY_LAYER),
    Family(
        "Qwen2ForCausalLM",
        "qwen2",
        query_key_value_bias=True,
        window=Window.BY_LAYER,
        window_needs_flag=True,
    ),
    Family(
        "Qwen3ForCausalLM",
        "qwen3",
        query_key_norm=True,
        window=Window.BY_LAYER,
        window_needs_flag=True,
    ),
    Family(
        "Qwen3MoeForCausalLM",
        "qwen3_moe",
        query_key_norm=True,
        window=Window.EVERY_LAYER,
        window_needs_flag=True,
        experts=ExpertNames("mlp", "gate_proj", "up_proj", "down_proj"),
    ),
    Family(
        "MixtralForCausalLM",
        "mixtral",
        window=Window.EVERY_LAYER,
        experts=ExpertNames("block_sparse_moe", "w1", "w3", "w2"),
        always_normalise=True,
        rope_theta=1_000_000.0,
        norm_epsilon=1e-5,
    ),
    Family(
        "DeepseekV2ForCausalLM",
        "deepseek_v2",
        experts=ExpertNames("mlp", "gate_proj", "up_proj", "down_proj"),
        is_latent=True,
    ),
    Family(
        "DeepseekV3ForCausalLM",
        "deepseek_v3",
        experts=ExpertNames("mlp", "gate_proj", "up_proj", "down_proj"),
        expert_scores="sigmoid",
        is_latent=True,
    ),
)


@dataclass(frozen=True, slots=True)
class EncoderFamily:
    """Where an encoder differs from BERT.

    Attributes:
        name: what the names of its architectures begin with.
        model_type: the name in `model_type`.
        prefix: what the names of its weights begin with, unless the encoder stands alone.
        counts_from_padding: positions begin behind the id of the padding token, not at 0.
        head: how a head for labels is built: a pooler and a matrix, or a block of two matrices.
        endings: what its architectures may end in.
    """

    name: str
    model_type: str
    prefix: str
    counts_from_padding: bool = False
    head: Literal["bert", "roberta"] = "bert"
    endings: tuple[str, ...] = ("Model", "ForMaskedLM", "ForSequenceClassification")

    @property
    def architectures(self) -> tuple[str, ...]:
        """Every name in `architectures` that stands for it."""
        return tuple(self.name + ending for ending in self.endings)


ENCODER_FAMILIES = (
    EncoderFamily(
        "Bert",
        "bert",
        "bert.",
        endings=("Model", "ForMaskedLM", "ForPreTraining", "ForSequenceClassification"),
    ),
    EncoderFamily("Roberta", "roberta", "roberta.", counts_from_padding=True, head="roberta"),
    EncoderFamily(
        "XLMRoberta", "xlm-roberta", "roberta.", counts_from_padding=True, head="roberta"
    ),
    EncoderFamily("Camembert", "camembert", "roberta.", counts_from_padding=True, head="roberta"),
)


@dataclass(frozen=True, slots=True)
class VisionFamily:
    """A decoder behind a tower that turns images into rows among its token embeddings.

    Attributes:
        architecture: the name in `architectures` of config.json.
        model_type: the name in `model_type`.
        decoder: architecture of the decoder; None when `text_config` says it.
        image_token_fields: fields that may hold the id of the token that stands for an image.
        grid_positions: tokens of an image are turned by frame, row and column (M-RoPE).
    """

    architecture: str
    model_type: str
    decoder: str | None
    image_token_fields: tuple[str, ...]
    grid_positions: bool = False


VISION_FAMILIES = (
    VisionFamily(
        "Qwen2VLForConditionalGeneration",
        "qwen2_vl",
        "Qwen2ForCausalLM",
        ("image_token_id",),
        grid_positions=True,
    ),
    VisionFamily(
        "Qwen2_5_VLForConditionalGeneration",
        "qwen2_5_vl",
        "Qwen2ForCausalLM",
        ("image_token_id",),
        grid_positions=True,
    ),
    VisionFamily(
        "LlavaForConditionalGeneration",
        "llava",
        None,
        ("image_token_index", "image_token_id"),
    ),
)

LABELS_ENDING = "ForSequenceClassification"
_DECODER_ENDING = "ForCausalLM"

SUPPORTED_ARCHITECTURES = tuple(
    sorted(
        [family.architecture for family in DECODER_FAMILIES]
        + [name for family in ENCODER_FAMILIES for name in family.architectures]
        + [family.architecture for family in VISION_FAMILIES]
    )
)


def find_family(architecture: str) -> Family | None:
    """Find a decoder family by the name of an architecture, whatever its last layer."""
    for ending in (_DECODER_ENDING, LABELS_ENDING, "Model"):
        for family in DECODER_FAMILIES:
            if architecture == family.architecture.removesuffix(_DECODER_ENDING) + ending:
                return family
    return None


def find_encoder_family(architecture: str) -> EncoderFamily | None:
    """Find an encoder family by the name of one of its architectures."""
    return next(
        (family for family in ENCODER_FAMILIES if architecture in family.architectures), None
    )


def find_vision_family(architecture: str) -> VisionFamily | None:
    """Find a family of models that see images by the name of its architecture."""
    return next((family for family in VISION_FAMILIES if family.architecture == architecture), None)


def architecture_of_model_type(model_type: str) -> str | None:
    """Name the architecture that a bare `model_type` stands for."""
    for encoder in ENCODER_FAMILIES:
        if encoder.model_type == model_type:
            return encoder.architectures[0]
    for vision in VISION_FAMILIES:
        if vision.model_type == model_type:
            return vision.architecture
    return next(
        (family.architecture for family in DECODER_FAMILIES if family.model_type == model_type),
        None,
    )
