"""How a step is cut along a plan: what crosses, what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from banyan.compiler.ir.graph import Graph
from banyan.engine.stages.carrying import CutModel, cut_model
from banyan.engine.stages.part import ENGINE
from banyan.foundation.errors import InputError
from banyan.models.experts import with_deferred
from banyan.models.loading import open_model
from banyan.models.step_graph import decoder_step_graph
from banyan.planner.plan import Plan, Replica, Stage
from tests.compiler.cutting.steps import step_of
from tests.conftest import Checkpoint


@pytest.fixture(scope="module")
def mixture(checkpoint: Checkpoint, program_cache: Path) -> Graph:
    """Three layers; the first and the last have experts."""
    return step_of(checkpoint("qwen3_moe"), program_cache)[0]


def plan_of(*stages: Stage, replicas: int = 1, prefill: tuple[Stage, ...] = ()) -> Plan:
    replica = Replica(stages, prefill)
    return Plan(model="m", model_fingerprint="", num_layers=3, replicas=(replica,) * replicas)


def crossing(cut: CutModel) -> list[tuple[str, str, list[str]]]:
    """From where to where, and the types of what crosses, in order."""
    types = {
        output.name: str(output.node.type)
        for numbered in cut.segments
        for output in numbered.segment.graph.outputs
    }
    found: dict[tuple[int, str, str], list[str]] = {}
    for numbered in cut.segments:
        for name, source in numbered.segment.received.items():
            if source != numbered.segment.place:
                key = (numbered.number, source, numbered.segment.place)
                found.setdefault(key, []).append(types[name])
    return [(source, place, sorted(kinds)) for (_, source, place), kinds in found.items()]


def weights_at(cut: CutModel, place: str) -> set[str]:
    return {
        str(node.attr("name"))
        for numbered in cut.of_place(place)
        for node in numbered.segment.graph.inputs
        if node.attr("role") == "weight"
    }


def test_a_step_over_two_stages_of_layers_is_a_row_for_each_token_and_the_results(
    mixture: Graph,
) -> None:
    cut = cut_model(mixture, plan_of(Stage(0, 2, ("a",)), Stage(2, 3, ("b",))))
    assert crossing(cut) == [("a", "b", ["f32[num_tokens, 64]"])]
    assert [(n.segment.place, tuple(n.sent)) for n in cut.segments] == [
        ("a", ("b",)),
        ("b", (ENGINE,)),
    ]
    assert cut.segments[1].sent[ENGINE] == ("logits",)


def test_attention_apart_gets_rows_of_queries_keys_and_values(mixture: Graph) -> None:
    cut = cut_model(mixture, plan_of(Stage(0, 3, ("a",), attention=("b",))))
    there, back = crossing(cut)[:2]
    # Values come as their linear made them: they are only seen as heads.
    kinds = ["f32[num_tokens, 2, 32]", "f32[num_tokens, 4, 32]", "f32[num_tokens, 64]"]
    assert there == ("a", "b", kinds)
    assert back == ("b", "a", ["f32[num_tokens, 4, 32]"])
    assert len(cut.segments) == 7
    assert weights_at(cut, "b") == set()


def test_experts_apart_get_a_row_for_each_token_and_give_one(mixture: Graph) -> None:
    cut = cut_model(mixture, plan_of(Stage(0, 3, ("a",), experts=("b",))))
    there, back = crossing(cut)[:2]
    assert there[:2] == ("a", "b")
    assert "f32[num_tokens, 64]" in there[2]
    assert not [kind for kind in there[2] if "2 * num_tokens, 64" in kind]
    assert back == ("b", "a", ["f32[num_tokens, 64]"])
    assert len(cut.segments) == 5
    assert all(".experts." in name for name in weights_at(cut, "b"))
    assert not [name for name in weights_at(cut, "a") if ".experts." in name]


def test_the_next_layer_begins_before_deferred_experts_are_through(
    checkpoint: Checkpoint, program_cache: Path
) -> None:
    """Layer 0 is dense, layers 1 and 2 have experts and shared ones, which nobody waits for."""
    configuration = open_model(str(checkpoint("deepseek_v3"))).decoder_configuration()
    experts = with_deferred(configuration.experts, 1, "tiny")
    graph = decoder_step_graph(
        replace(configuration, experts=experts), dtype="float32", cache_directory=program_cache
    )
    cut = cut_model(graph, plan_of(Stage(0, 3, ("a",), experts=("b",))))
    assert [numbered.segment.place for numbered in cut.segments] == list("aabbaaba")
    at_once, later, next_layer = cut.segments[2], cut.segments[3], cut.segments[4]
    assert at_once.title == later.title == "layer 1"
    assert next_layer.title == "layer 2"
    assert set(at_once.segment.given) <= next_layer.segment.received.keys()
    assert not set(later.segment.given) & next_layer.segment.received.keys()
    assert set(later.segment.given) <= cut.segments[-1].segment.received.keys()


def test_each_stage_has_its_own_weights_and_titles_its_layers(mixture: Graph) -> None:
    cut = cut_model(mixture, plan_of(Stage(0, 2, ("a",)), Stage(2, 3, ("b",))))
    assert [numbered.title for numbered in cut.segments] == ["layers 0 to 1", "layer 2"]
    assert crossing(cut) == [("a", "b", ["f32[num_tokens, 64]"])]
    assert not weights_at(cut, "a") & weights_at(cut, "b")
    assert "model.norm.weight" in weights_at(cut, "b")


def test_prompts_apart_are_cut_along_their_own_stages(mixture: Graph) -> None:
    plan = plan_of(
        Stage(0, 3, ("a",)), prefill=(Stage(0, 1, ("b",)), Stage(1, 3, ("c",), attention=("a",)))
    )
    assert cut_model(mixture, plan).places == ("a",)
    assert cut_model(mixture, plan, of_prompts=True).places == ("b", "c", "a")


def test_caches_on_two_devices_have_half_the_heads_each(mixture: Graph) -> None:
    cut = cut_model(mixture, plan_of(Stage(0, 3, ("a",), attention=("b", "c"))))
    sent = [(source, place, kinds) for source, place, kinds in crossing(cut) if source == "a"]
    kinds = ["f32[num_tokens, 1, 32]", "f32[num_tokens, 1, 32]", "f32[num_tokens, 2, 32]"]
    assert sent[:2] == [("a", "b", kinds), ("a", "c", kinds)]
    assert weights_at(cut, "b") == weights_at(cut, "c") == set()
    assert ("b", "a", ["f32[num_tokens, 2, 32]"]) in crossing(cut)[:4]


def test_experts_on_two_devices_have_half_the_columns_each(mixture: Graph) -> None:
    cut = cut_model(mixture, plan_of(Stage(0, 3, ("a",), experts=("b", "c"))))
    shards = cut.sharded.shards
    assert weights_at(cut, "b") == {name for name in shards if name.endswith(".part0of2")}
    assert weights_at(cut, "c") == {name for name in shards if name.endswith(".part1of2")}
    assert all(".experts." in shard.name for shard in shards.values())
    back = [kinds for source, place, kinds in crossing(cut) if place == "a"]
    assert {kind for kinds in back for kind in kinds} == {"f32[num_tokens, 64]"}


@pytest.mark.parametrize(
    ("stages", "depth"),
    [
        ((Stage(0, 3, ("a",)),), 1),
        ((Stage(0, 2, ("a",)), Stage(2, 3, ("b",))), 2),
        ((Stage(0, 1, ("a", "b")), Stage(1, 3, ("a",))), 1),
        ((Stage(0, 1, ("a", "b")), Stage(1, 2, ("c",)), Stage(2, 3, ("b",))), 2),
        ((Stage(0, 3, ("a",), attention=("b",)),), 2),
        ((Stage(0, 3, ("a",), experts=("a",)),), 1),
    ],
)
def test_as_many_steps_can_be_under_way_as_there_are_groups_of_devices_in_a_row(
    stages: tuple[Stage, ...], depth: int, mixture: Graph
) -> None:
    assert cut_model(mixture, plan_of(*stages)).num_in_flight == 2 * depth


def test_places_that_hand_each_other_values_are_pairs(mixture: Graph) -> None:
    stages = (Stage(0, 2, ("a",), attention=("c",)), Stage(2, 3, ("b",)))
    assert cut_model(mixture, plan_of(*stages)).pairs == {("a", "c"), ("a", "b")}


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (plan_of(Stage(0, 3, ("a",)), replicas=2), "has 2 replicas and one engine runs one"),
        (plan_of(Stage(0, 3, ("a", "b", "c"))), "2 heads of its cache, which 3 devices cannot"),
    ],
)
def test_plans_that_are_not_carried_out_are_refused(
    plan: Plan, reason: str, mixture: Graph
) -> None:
    with pytest.raises(InputError, match=reason):
        cut_model(mixture, plan)
