"""What a model that scores texts says of its labels; imports no torch and no NumPy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.json_fields import Fields

Activation = Literal["identity", "sigmoid", "softmax"]

# How sentence-transformers spells what it applies to the raw scores of a pair.
_ACTIVATIONS: dict[str, Activation] = {
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.Identity": "identity",
    "torch.nn.Sigmoid": "sigmoid",
}


@dataclass(frozen=True, slots=True)
class Classifier:
    """Labels, and what turns raw scores into what a caller sees.

    Attributes:
        labels: one name for each score, in order.
        probability: makes raw scores probabilities: each by itself, or all together.
        relevance: makes the first raw score of a pair its relevance.
    """

    labels: tuple[str, ...]
    probability: Activation
    relevance: Activation


def read_classifier(fields: Fields) -> Classifier:
    """Read `id2label`, `num_labels`, `problem_type` and the activation of a pair's score.

    Raises:
        ModelError: the labels contradict themselves.
        UnsupportedModelError: an activation that is not known here.
    """
    labels = _read_labels(fields)
    several = fields.values.get("problem_type") == "multi_label_classification"
    return Classifier(
        labels=labels,
        probability="sigmoid" if several or len(labels) == 1 else "softmax",
        relevance=_read_relevance(fields, num_labels=len(labels)),
    )


def apply_activation(scores: Sequence[float], activation: Activation) -> list[float]:
    """Turn the raw scores of one text into what a caller sees."""
    if activation == "identity":
        return list(scores)
    if activation == "sigmoid":
        return [_sigmoid(score) for score in scores]
    peak = max(scores)
    weights = [math.exp(score - peak) for score in scores]
    total = sum(weights)
    return [weight / total for weight in weights]


def _sigmoid(score: float) -> float:
    # The larger of both powers would overflow for scores far from zero.
    power = math.exp(-abs(score))
    return 1 / (1 + power) if score >= 0 else power / (1 + power)


def _read_labels(fields: Fields) -> tuple[str, ...]:
    named = fields.nested("id2label")
    if named is None:
        # Without a word about labels, transformers makes two.
        count = fields.integer("num_labels", 2)
        return tuple(f"LABEL_{number}" for number in range(count))
    labels = tuple(named.values.get(str(number)) for number in range(len(named.values)))
    if not labels or any(not isinstance(label, str) for label in labels):
        raise ModelError(
            f"{fields.origin}: id2label must name the labels 0 to {len(labels) - 1}, found "
            f"{', '.join(map(str, named.values)) or 'none'}"
        )
    return tuple(str(label) for label in labels)


def _read_relevance(fields: Fields, *, num_labels: int) -> Activation:
    inner = fields.nested("sentence_transformers")
    if inner is not None and inner.has("activation_fn"):
        name = inner.text("activation_fn")
    elif fields.has("sbert_ce_default_activation_function"):
        name = fields.text("sbert_ce_default_activation_function")
    else:
        return "sigmoid" if num_labels == 1 else "identity"
    if name not in _ACTIVATIONS:
        raise UnsupportedModelError(
            f"{fields.origin} asks for the activation {name!r} of its scores; supported are "
            f"{', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]
