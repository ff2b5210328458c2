"""`banyan quantize` without its words: what is written reads back, here and by others."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from banyan import LLM, Embedder, SamplingOptions
from banyan.engine.workbench.accuracy import TextAccuracy, VectorAccuracy
from banyan.engine.workbench.quantizing import QuantizingReport, quantize_directory
from banyan.foundation.errors import InputError, ModelError, StorageFull
from banyan.foundation.settings import load_settings
from banyan.models.loading import open_model
from banyan.models.quantisation.rounded import RoundingChoice
from banyan.models.quantisation.scheme import LinearScheme
from banyan.models.quantized_model import quantized_model
from banyan.models.step_graph import decoder_step_graph
from tests.conftest import Checkpoint

TEXT = "A banyan is one tree that stands on many roots.\n\nWhat is the capital of France? " * 20


def quantized(
    model: Path, target: Path, choice: RoundingChoice, text: str | None = None
) -> QuantizingReport:
    return quantize_directory(
        str(model),
        target,
        choice,
        text=text,
        settings=load_settings(os.environ),
        progress=lambda *_: None,
    )


def schemes_of(directory: Path) -> dict[str, LinearScheme]:
    model = open_model(str(directory))
    cache = load_settings(os.environ).cache_directory
    configuration = model.decoder_configuration()
    graph = decoder_step_graph(configuration, dtype="float32", cache_directory=cache)
    return dict(quantized_model(model, model.open_weights(), graph, dtype="float32").schemes)


CHOICES = (
    (RoundingChoice("int8"), {LinearScheme("int8", 64, activation="int8")}),
    (RoundingChoice("int8", activation="plain"), {LinearScheme("int8", 64)}),
    (RoundingChoice("int4", group=32), {LinearScheme("int4", 32)}),
    (RoundingChoice("int4", asymmetric=True), {LinearScheme("int4", 64, zeros=True)}),
    (RoundingChoice("fp8"), {LinearScheme("fp8", 64)}),
)


@pytest.mark.parametrize(("choice", "schemes"), CHOICES)
def test_a_written_model_reads_back_with_its_scheme(
    choice: RoundingChoice, schemes: set[LinearScheme], checkpoint: Checkpoint, tmp_path: Path
) -> None:
    report = quantized(checkpoint("llama", dtype="bfloat16"), tmp_path / "out", choice)
    found = schemes_of(tmp_path / "out")
    narrow = {scheme for layer, scheme in found.items() if "down_proj" not in layer}
    assert narrow == schemes
    assert len(found) == report.num_layers == 14
    assert report.bytes_after < report.bytes_before
    assert report.accuracy is None
    assert not (tmp_path / "out.part").exists()


def test_a_tied_output_matrix_is_named_as_left_alone(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    quantized(checkpoint("llama_tied"), tmp_path / "out", RoundingChoice("int8"))
    fields = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert "lm_head" in fields["ignore"]
    assert [group["targets"] for group in fields["config_groups"].values()] == [["Linear"]]


def test_layers_named_by_the_caller_stay_as_they_were(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    source = checkpoint("llama")
    quantized(source, tmp_path / "out", RoundingChoice("int8", keep=("lm_head", "v_proj")))
    fields = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert "model.layers.1.self_attn.v_proj" in fields["ignore"]
    with (
        safe_open(tmp_path / "out" / "model.safetensors", "np") as new,
        safe_open(source / "model.safetensors", "np") as old,
    ):
        for name in ("model.layers.1.self_attn.v_proj.weight", "model.norm.weight"):
            assert np.array_equal(new.get_tensor(name), old.get_tensor(name))


def test_a_decoder_is_compared_with_the_original_on_a_text(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    report = quantized(checkpoint("llama"), tmp_path / "out", RoundingChoice("int8"), TEXT)
    accuracy = report.accuracy
    assert isinstance(accuracy, TextAccuracy)
    assert 0 < accuracy.divergence < 0.01
    assert accuracy.agreement > 0.9
    assert abs(accuracy.quantized_perplexity / accuracy.perplexity - 1) < 0.02
    assert len(report.errors) == 14
    assert all(0 < error < 0.05 for _, error in report.errors)
    greedy = SamplingOptions(temperature=0.0, max_tokens=5)
    with LLM(tmp_path / "out", threads=2, max_model_len=64) as llm:
        assert llm.generate([[5, 6, 7]], greedy)[0].token_ids


@pytest.mark.wide
def test_an_encoder_is_compared_by_its_vectors(checkpoint: Checkpoint, tmp_path: Path) -> None:
    report = quantized(checkpoint("bert"), tmp_path / "out", RoundingChoice("int8"), TEXT)
    assert isinstance(report.accuracy, VectorAccuracy)
    assert report.accuracy.least_cosine > 0.99
    with Embedder(tmp_path / "out", threads=2) as embedder:
        assert embedder.embed(["one tree"]).shape == (1, 64)


def test_what_cannot_be_is_refused_and_leaves_nothing_behind(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    source, target = checkpoint("llama"), tmp_path / "out"
    with pytest.raises(InputError, match="groups of 48 do not divide the width 64"):
        quantized(source, target, RoundingChoice("int4", group=48))
    with pytest.raises(InputError, match="the text is too short"):
        quantized(source, target, RoundingChoice("int4"), "word")
    assert not target.exists()
    quantized(source, target, RoundingChoice("int4"))
    with pytest.raises(InputError, match="is there already"):
        quantized(source, target, RoundingChoice("int4"))
    with pytest.raises(InputError, match="is quantised already, with compressed-tensors"):
        quantized(target, tmp_path / "again", RoundingChoice("int4"))


def test_a_model_without_a_layer_to_round_is_refused(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    everything = RoundingChoice("int8", keep=("model", "lm_head"))
    with pytest.raises(InputError, match=r"no layer is left to round to int8: .*model, lm_head"):
        quantized(checkpoint("llama"), tmp_path / "out", everything)
    misspelt = RoundingChoice("int8", keep=("lm_head", "q_projj"))
    with pytest.raises(InputError, match="no linear layer 'q_projj' to keep; name a whole part"):
        quantized(checkpoint("llama"), tmp_path / "out", misspelt)
    with pytest.raises(InputError, match=r"layers to keep hold 're:[*]', which is no pattern"):
        RoundingChoice("int8", keep=("re:*",))


def test_a_damaged_weight_is_named_and_leaves_nothing_behind(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    damaged, name = tmp_path / "damaged", "model.layers.1.mlp.up_proj"
    shutil.copytree(checkpoint("llama"), damaged)
    tensors = load_file(damaged / "model.safetensors")
    tensors[f"{name}.weight"][5, 7] = np.inf
    save_file(tensors, damaged / "model.safetensors")
    with pytest.raises(ModelError, match=f"row 5 of the weight of layer {name} holds NaN or inf"):
        quantized(damaged, tmp_path / "out", RoundingChoice("int4"))
    with pytest.raises(ModelError, match=f"row 5 of the weight of layer {name} holds NaN or inf"):
        LLM(damaged, quantization="int8", dtype="float32", threads=1, max_model_len=64)
    assert [path.name for path in tmp_path.iterdir()] == ["damaged"]


def test_a_target_that_cannot_be_written_is_told(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(StorageFull, match=r"out.part cannot be written: .*[Nn]ot a directory"):
        quantized(checkpoint("llama"), tmp_path / "file" / "out", RoundingChoice("int8"))


def test_a_target_may_lie_inside_the_model(checkpoint: Checkpoint, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(checkpoint("llama"), source)
    (source / "more").mkdir()
    target = source / "more" / "small"
    quantized(source, target, RoundingChoice("int8"))
    assert {path.name for path in (target / "more").iterdir()} == set()
    assert (target / "model.safetensors").is_file()


def test_what_else_a_layer_holds_is_copied(checkpoint: Checkpoint, tmp_path: Path) -> None:
    source, name = tmp_path / "source", "model.layers.0.self_attn.k_proj"
    shutil.copytree(checkpoint("llama"), source)
    tensors = load_file(source / "model.safetensors")
    tensors[f"{name}.output_scale"] = np.full(1, 0.5, np.float32)
    save_file(tensors, source / "model.safetensors")
    quantized(source, tmp_path / "out", RoundingChoice("int8"))
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert written[f"{name}.output_scale"].tolist() == [0.5]
    assert written[f"{name}.weight"].dtype == np.int8


def test_experts_stay_as_they_were_and_are_counted(checkpoint: Checkpoint, tmp_path: Path) -> None:
    report = quantized(checkpoint("qwen3_moe"), tmp_path / "out", RoundingChoice("int8"))
    assert len(report.experts) == 6
    assert report.num_layers == 3 * 4 + 3
    schemes = schemes_of(tmp_path / "out")
    assert not any("experts" in layer or layer.endswith("mlp.gate") for layer in schemes)
