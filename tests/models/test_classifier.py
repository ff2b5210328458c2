import math

import pytest

from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.classifier import Activation, apply_activation, read_classifier
from banyan.models.json_fields import Fields


def fields(**values: object) -> Fields:
    return Fields(values, "config.json")


def test_labels_are_in_the_order_of_their_numbers() -> None:
    found = read_classifier(fields(id2label={"1": "good", "0": "bad"}))
    assert found.labels == ("bad", "good")
    assert (found.probability, found.relevance) == ("softmax", "identity")


def test_without_labels_there_are_as_many_as_the_file_counts_or_two() -> None:
    assert read_classifier(fields(num_labels=3)).labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert len(read_classifier(fields()).labels) == 2


def test_one_label_is_a_relevance_between_0_and_1() -> None:
    found = read_classifier(fields(id2label={"0": "LABEL_0"}))
    assert (found.probability, found.relevance) == ("sigmoid", "sigmoid")


def test_labels_that_do_not_exclude_each_other_have_probabilities_of_their_own() -> None:
    several = fields(num_labels=2, problem_type="multi_label_classification")
    assert read_classifier(several).probability == "sigmoid"


@pytest.mark.parametrize(
    "said",
    [
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
    ],
)
def test_what_sentence_transformers_applies_to_a_pair_is_read(said: dict[str, object]) -> None:
    assert read_classifier(fields(num_labels=1, **said)).relevance == "identity"


def test_labels_with_a_hole_and_unknown_activations_are_refused() -> None:
    with pytest.raises(ModelError, match="id2label must name the labels 0 to 1, found 0, 2"):
        read_classifier(fields(id2label={"0": "a", "2": "b"}))
    with pytest.raises(ModelError, match="found none"):
        read_classifier(fields(id2label={}))
    with pytest.raises(UnsupportedModelError, match=r"'my\.code'"):
        read_classifier(fields(sentence_transformers={"activation_fn": "my.code"}))


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("identity", [1.0, -1.0]),
        ("sigmoid", [1 / (1 + math.exp(-1)), 1 / (1 + math.e)]),
        ("softmax", [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))]),
    ],
)
def test_activations(activation: Activation, expected: list[float]) -> None:
    assert apply_activation([1.0, -1.0], activation) == pytest.approx(expected)


def test_scores_far_from_zero_do_not_overflow() -> None:
    assert apply_activation([1000.0, -1000.0], "sigmoid") == [1.0, 0.0]
    assert apply_activation([1000.0, -1000.0], "softmax") == [1.0, 0.0]
