"""Read `adapter_config.json` of PEFT, and refuse by name whatever would change the numbers unseen.

Format: https://huggingface.co/docs/peft, class `LoraConfig`. Options that only matter in training
are ignored; options unknown here are refused unless they are switched off.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.json_fields import Fields

CONFIGURATION_FILE = "adapter_config.json"

# Only of training, of bookkeeping, or told again by the tensors themselves.
_IGNORED = frozenset(
    "task_type auto_mapping peft_version base_model_name_or_path revision inference_mode "
    "exclude_modules lora_dropout layers_to_transform layers_pattern megatron_config megatron_core "
    "eva_config corda_config loftq_config lora_ga_config runtime_config qalora_group_size "
    "ensure_weight_tying".split()
)
_READ = frozenset(
    "peft_type r lora_alpha use_rslora bias rank_pattern alpha_pattern target_modules "
    "init_lora_weights".split()
)
# These begin from the base weights as they are; others (PiSSA, LoftQ, ...) change them.
_KINDS_OF_START = (True, False, "gaussian", "eva", "orthogonal")

_LONGEST_PATTERN = 256
_MOST_QUANTIFIERS = 3
_QUANTIFIER = re.compile(r"[*+?{]")
_NESTED = re.compile(r"\)[*+?{]")


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """What an adapter says about itself.

    Attributes:
        rank: r of every layer that `rank_pattern` does not name.
        alpha: numerator of the scale, likewise.
        rank_pattern: rank by a regular expression that the end of a layer's name matches.
        alpha_pattern: alpha likewise.
        is_rank_stabilised: the scale is alpha / sqrt(r), not alpha / r.
        target_modules: endings of the names of adapted layers; empty when the file gives a
            regular expression instead, which the tensors tell again.
        base_model: the name of the model it was trained on, as the file has it.
    """

    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    is_rank_stabilised: bool
    target_modules: tuple[str, ...]
    base_model: str

    def rank_of(self, module: str) -> int:
        """The rank of the layer named `module`, such as "model.layers.0.self_attn.q_proj"."""
        return self.rank_pattern.get(_key_for(self.rank_pattern, module), self.rank)

    def scale_of(self, module: str) -> float:
        """What the low-rank product of a layer is multiplied by."""
        alpha = self.alpha_pattern.get(_key_for(self.alpha_pattern, module), self.alpha)
        rank = self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.is_rank_stabilised else rank)


def read_settings(directory: Path) -> AdapterSettings:
    """Read the settings of the adapter in `directory`.

    Raises:
        ModelError: the file is missing or damaged.
        UnsupportedModelError: an option is not supported; the sentence names it.
    """
    fields = Fields.read(directory / CONFIGURATION_FILE)
    _refuse_unsupported(fields)
    alpha = fields.number("lora_alpha", 8.0)
    ranks, alphas = _pattern(fields, "rank_pattern"), _pattern(fields, "alpha_pattern")
    return AdapterSettings(
        rank=fields.integer("r", 8),
        alpha=alpha,
        rank_pattern={key: ranks.integer(key) for key in ranks.values},
        alpha_pattern={key: alphas.number(key) for key in alphas.values},
        is_rank_stabilised=fields.flag("use_rslora", False),
        target_modules=_target_modules(fields),
        base_model=str(fields.values.get("base_model_name_or_path") or ""),
    )


def _refuse_unsupported(fields: Fields) -> None:
    values, origin = fields.values, fields.origin
    kind = values.get("peft_type")
    if kind != "LORA":
        raise UnsupportedModelError(
            f"{origin}: peft_type {kind!r} is not supported; only 'LORA' adapters are"
        )
    bias = values.get("bias", "none")
    if bias not in (None, "none"):
        raise UnsupportedModelError(
            f"{origin}: bias={bias!r} is not supported, as the base's biases would have to change; "
            "only 'none' is"
        )
    start = values.get("init_lora_weights", True)
    if start is not None and start not in _KINDS_OF_START:
        raise UnsupportedModelError(
            f"{origin}: init_lora_weights={start!r} changes the base weights; save the adapter "
            "converted for the original base (PEFT: path_initial_model_for_weight_conversion)"
        )
    for name, value in values.items():
        if name not in _IGNORED | _READ and value not in (None, False, [], {}):
            raise UnsupportedModelError(
                f"{origin}: the option {name}={_shown(value)} is not supported; train or save the "
                "adapter without it"
            )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _target_modules(fields: Fields) -> tuple[str, ...]:
    if isinstance(fields.values.get("target_modules"), str):
        return ()
    return fields.texts("target_modules")


def _pattern(fields: Fields, name: str) -> Fields:
    """Values by regular expression; expressions that could run for long are refused."""
    found = fields.nested(name) or Fields({}, fields.origin)
    for key in found.values:
        is_simple = len(key) <= _LONGEST_PATTERN and not _NESTED.search(key)
        if not is_simple or len(_QUANTIFIER.findall(key)) > _MOST_QUANTIFIERS:
            raise UnsupportedModelError(
                f"{found.origin}: the key {_shown(key)} is not supported; use names of layers or "
                f"expressions with at most {_MOST_QUANTIFIERS} repetitions, none of a group"
            )
        try:
            re.compile(key)
        except re.error as error:
            raise ModelError(
                f"{found.origin}: the key {_shown(key)} is no regular expression: {error}"
            ) from error
    return found


def _key_for(keys: Mapping[str, Any], module: str) -> str:
    """The first key that the end of a layer's name matches, as PEFT chooses it."""
    return next((key for key in keys if re.match(rf"(.*\.)?({key})$", module)), module)
