"""What config.json says of the tower that turns images into rows. Imports no torch, no NumPy."""

from dataclasses import dataclass
from typing import Literal

from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.json_fields import Fields

_GELU = {
    "quick_gelu": "gelu_sigmoid",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


@dataclass(frozen=True, slots=True)
class GridTower:
    """The tower of Qwen2-VL and Qwen2.5-VL: any number of patches, turned by row and column.

    Attributes:
        kind: which of the two: layer norms and two matrices, or root mean squares and a gate.
        patch_values: numbers of one patch: channels, frames, rows and columns of pixels.
        merge: so many patches in each direction become one row.
        output_size: size of an embedding of the decoder.
        window_merges: rows in each direction that see one another; 0 where all layers see all.
        full_layers: layers that see the whole image although there are windows.
    """

    kind: Literal["qwen2", "qwen2_5"]
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    activation: str
    patch_values: int
    merge: int
    output_size: int
    theta: float = 10_000.0
    window_merges: int = 0
    full_layers: tuple[int, ...] = ()

    @property
    def head_dim(self) -> int:
        """Size of one attention head."""
        return self.hidden_size // self.num_heads


@dataclass(frozen=True, slots=True)
class SquareTower:
    """The tower of LLaVA: CLIP over a square of fixed size, then two matrices.

    Attributes:
        side_patches: patches in each direction.
        feature_layers: so many layers are run for each part of a row; parts lie side by side.
        keeps_class: the vector of the class token is a row too.
        projector_bias: the two matrices behind CLIP have biases.
    """

    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    activation: str
    norm_epsilon: float
    patch_size: int
    side_patches: int
    output_size: int
    projector_activation: str
    projector_bias: bool
    feature_layers: tuple[int, ...]
    keeps_class: bool

    @property
    def head_dim(self) -> int:
        """Size of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def patch_values(self) -> int:
        """Numbers of one patch: channels, rows and columns of pixels."""
        return 3 * self.patch_size**2

    @property
    def num_rows(self) -> int:
        """Rows of one image."""
        return self.side_patches**2 + self.keeps_class


Tower = GridTower | SquareTower


def read_grid_tower(fields: Fields, *, is_second: bool, decoder_size: int) -> GridTower:
    """Read `vision_config` of Qwen2-VL or, where `is_second`, of Qwen2.5-VL.

    `decoder_size` is the size of the decoder's embeddings.

    Raises:
        UnsupportedModelError: an activation not known here.
        ModelError: the sizes contradict one another.
    """
    hidden_size = fields.integer("hidden_size" if is_second else "embed_dim")
    num_heads = fields.integer("num_heads")
    _require_heads(fields, hidden_size, num_heads, multiple=4)
    merge = fields.integer("spatial_merge_size", 2)
    patch_size = fields.integer("patch_size", 14)
    output_size = fields.integer("out_hidden_size" if is_second else "hidden_size")
    if output_size != decoder_size:
        raise ModelError(
            f"{fields.origin} makes rows of {output_size} numbers; the embeddings of the decoder "
            f"have {decoder_size}"
        )
    pixels = fields.integer("temporal_patch_size", 2) * patch_size**2
    channels = fields.integer("in_channels", fields.integer("in_chans", 3))
    if channels != 3:
        raise UnsupportedModelError(
            f"{fields.origin} sees {channels} channels; supported are the 3 of red, green and blue"
        )
    if is_second:
        activation = fields.text("hidden_act", "silu")
        if activation != "silu":
            raise _unknown_activation(fields, activation, "silu")
        inner = fields.integer("intermediate_size")
    else:
        activation = read_activation(fields, "hidden_act", "quick_gelu")
        inner = int(hidden_size * fields.number("mlp_ratio", 4))
    num_layers = fields.integer("depth")
    return GridTower(
        kind="qwen2_5" if is_second else "qwen2",
        num_layers=num_layers,
        hidden_size=hidden_size,
        intermediate_size=inner,
        num_heads=num_heads,
        activation=activation,
        patch_values=3 * pixels,
        merge=merge,
        output_size=output_size,
        theta=_theta(fields),
        window_merges=_window(fields, merge * patch_size) if is_second else 0,
        full_layers=fields.integers("fullatt_block_indexes") if is_second else (),
    )


def read_square_tower(fields: Fields, vision: Fields, *, decoder_size: int) -> SquareTower:
    """Read the tower of LLaVA from the whole config.json and its `vision_config`.

    Raises:
        UnsupportedModelError: a tower that is no CLIP, or an activation not known here.
        ModelError: the sizes contradict one another.
    """
    kind = vision.text("model_type", "clip_vision_model")
    if kind != "clip_vision_model":
        raise UnsupportedModelError(
            f"{vision.origin} asks for a tower of type {kind!r}; supported is clip_vision_model"
        )
    hidden_size, num_heads = vision.integer("hidden_size"), vision.integer("num_attention_heads")
    _require_heads(vision, hidden_size, num_heads, multiple=2)
    num_layers = vision.integer("num_hidden_layers")
    image_size, patch_size = vision.integer("image_size"), vision.integer("patch_size")
    strategy = fields.text("vision_feature_select_strategy", "default")
    if strategy not in {"default", "full"}:
        raise UnsupportedModelError(
            f"{fields.origin} selects features by {strategy!r}; supported are default and full"
        )
    return SquareTower(
        num_layers=num_layers,
        hidden_size=hidden_size,
        intermediate_size=vision.integer("intermediate_size"),
        num_heads=num_heads,
        activation=read_activation(vision, "hidden_act", "quick_gelu"),
        norm_epsilon=vision.number("layer_norm_eps", 1e-5),
        patch_size=patch_size,
        side_patches=image_size // patch_size,
        output_size=decoder_size,
        projector_activation=read_activation(fields, "projector_hidden_act", "gelu"),
        projector_bias=fields.flag("multimodal_projector_bias", True),
        feature_layers=_feature_layers(fields, num_layers),
        keeps_class=strategy == "full",
    )


def read_activation(fields: Fields, name: str, default: str) -> str:
    """Give "gelu", "gelu_tanh" or "gelu_sigmoid"."""
    activation = fields.text(name, default)
    if activation not in _GELU:
        raise _unknown_activation(fields, activation, ", ".join(_GELU))
    return _GELU[activation]


def _unknown_activation(fields: Fields, activation: str, known: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{fields.origin} asks for the activation {activation!r}; supported: {known}"
    )


def _require_heads(fields: Fields, hidden_size: int, num_heads: int, *, multiple: int) -> None:
    if hidden_size % num_heads or (hidden_size // num_heads) % multiple:
        raise ModelError(
            f"{fields.origin}: {hidden_size} numbers in {num_heads} heads; each head needs a "
            f"multiple of {multiple}"
        )


def _theta(fields: Fields) -> float:
    rope = fields.nested("rope_parameters")
    return 10_000.0 if rope is None else rope.number("rope_theta", 10_000.0)


def _window(fields: Fields, merged_pixels: int) -> int:
    window = fields.integer("window_size", 112) // merged_pixels
    if window == 0:
        raise ModelError(
            f"{fields.origin}: window_size {fields.integer('window_size', 112)} is smaller than "
            f"the {merged_pixels} pixels of one row"
        )
    return window


def _feature_layers(fields: Fields, num_layers: int) -> tuple[int, ...]:
    """How many layers are run for each part of a row; -1 in the file means all of them."""
    chosen = fields.integers("vision_feature_layer") or (-2,)
    counts = tuple(layer if layer >= 0 else num_layers + 1 + layer for layer in chosen)
    if any(not 0 <= count <= num_layers for count in counts):
        raise ModelError(
            f"{fields.origin}: vision_feature_layer {list(chosen)} is outside the {num_layers} "
            "layers of the tower"
        )
    return counts
