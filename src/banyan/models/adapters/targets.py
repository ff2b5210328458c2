"""Which linear layers of a decoder an adapter may change, and which of them read the same rows.

Legend: K inputs, N outputs of a layer.
"""

from dataclasses import dataclass

from banyan.models.configuration import ModelConfiguration


@dataclass(frozen=True, slots=True)
class Target:
    """One linear layer.

    Attributes:
        path: its name inside a decoder layer, such as "self_attn.q_proj".
        inputs: K.
        outputs: N.
    """

    path: str
    inputs: int
    outputs: int

    @property
    def module(self) -> str:
        """The last part of the path, as adapters name it in `target_modules`."""
        return self.path.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """Layers that read the same rows: the first product of an adapter is made for all at once.

    Attributes:
        name: unique in a decoder layer.
        targets: all with the same number of inputs.
    """

    name: str
    targets: tuple[Target, ...]

    @property
    def inputs(self) -> int:
        """K."""
        return self.targets[0].inputs

    @property
    def outputs(self) -> tuple[int, ...]:
        """N of each layer."""
        return tuple(target.outputs for target in self.targets)


def target_groups(configuration: ModelConfiguration, layer: int) -> tuple[TargetGroup, ...]:
    """The layers of decoder layer `layer` that an adapter may change.

    The router and the experts of a mixture are not among them.
    """
    c = configuration
    attention = _of_attention(c)
    if c.is_sparse(layer):
        return attention
    halves = tuple(
        Target(f"mlp.{name}", c.hidden_size, c.intermediate_size)
        for name in ("gate_proj", "up_proj")
    )
    down = Target("mlp.down_proj", c.intermediate_size, c.hidden_size)
    return (*attention, TargetGroup("gate_up", halves), TargetGroup("down", (down,)))


def _of_attention(configuration: ModelConfiguration) -> tuple[TargetGroup, ...]:
    """The linears around attention; of latent attention the last one only."""
    c = configuration
    if c.latent is not None:
        values = c.num_heads * c.latent.value_size
        return (TargetGroup("o", (Target("self_attn.o_proj", values, c.hidden_size),)),)
    heads, kv_heads = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    sizes = (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads))
    inner = tuple(Target(f"self_attn.{name}", c.hidden_size, size) for name, size in sizes)
    return (
        TargetGroup("qkv", inner),
        TargetGroup("o", (Target("self_attn.o_proj", heads, c.hidden_size),)),
    )


def known_targets(configuration: ModelConfiguration) -> dict[tuple[int, str], Target]:
    """Every layer that an adapter may change, by decoder layer and path."""
    return {
        (layer, target.path): target
        for layer in range(configuration.num_layers)
        for group in target_groups(configuration, layer)
        for target in group.targets
    }
