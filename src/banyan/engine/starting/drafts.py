"""Load what guesses for a model: a smaller model of the same words, or heads made for it."""

from dataclasses import replace

from banyan.compiler.ir.cached import CACHE_FORMATS
from banyan.devices.device import Device
from banyan.engine.batch_generation import Progress
from banyan.engine.options import EngineOptions
from banyan.engine.speculation.making import LoadedDraft
from banyan.engine.speculation_options import SpeculationOptions
from banyan.engine.starting.cache_size import CacheShape
from banyan.engine.starting.compiling import (
    choose_dtype,
    compile_and_pack,
    open_directory,
    packed_weights_key,
    plain_graph,
    quantized,
    rounding_choice,
)
from banyan.foundation.errors import InputError
from banyan.foundation.settings import Settings
from banyan.models.configuration import ModelConfiguration
from banyan.models.heads.graph import heads_graph
from banyan.models.heads.reading import MedusaHeads, open_heads
from banyan.models.hub import find_model_directory
from banyan.models.loading import ModelDirectory
from banyan.models.quantisation.graph import quantize_graph
from banyan.models.quantisation.rounded import RoundedWeights
from banyan.models.quantized_model import QuantizedModel


def load_draft(
    target: ModelDirectory,
    options: EngineOptions,
    device: Device,
    *,
    dtype: str,
    settings: Settings,
    say: Progress,
) -> LoadedDraft | None:
    """Load what guesses for a model that computes in `dtype`, where one is asked for.

    Raises:
        ModelError: it cannot be used, or was made for another model.
        InputError: the draft model has other words, or the heads are of another kind.
    """
    chosen = options.speculation
    if chosen is None or chosen.model is None:
        return None
    if chosen.method == "draft_model":
        return _load_model(target, chosen.model, options, device, settings=settings, say=say)
    return _load_heads(target, chosen, options, device, dtype=dtype, settings=settings, say=say)


def _load_model(
    target: ModelDirectory,
    name: str,
    options: EngineOptions,
    device: Device,
    *,
    settings: Settings,
    say: Progress,
) -> LoadedDraft:
    alone = replace(options, task="generate", deferred_experts=0)
    directory = open_directory(name, alone, settings, say)
    configuration = directory.decoder_configuration()
    vocab_size = target.decoder_configuration().vocab_size
    if directory.decoder_configuration().sees_images:
        raise InputError(
            f"speculation: the draft model {directory.name} sees images; draft with a model of "
            "text alone"
        )
    same_words = all(
        directory.tokenizer.token_text(i) == target.tokenizer.token_text(i)
        for i in range(vocab_size)
    )
    if not same_words:
        raise InputError(
            f"speculation: the draft model {directory.name} has another vocabulary than "
            f"{target.name}; use a model of the same family"
        )
    dtype = choose_dtype(options.dtype, configuration.checkpoint_dtype)
    graph = plain_graph(directory, dtype, settings)
    model = quantized(directory, directory.open_weights(), graph, options, dtype)
    key = packed_weights_key(directory, model)
    executable = compile_and_pack(model, device, settings=settings, say=say, key=key)
    longest = configuration.max_position_embeddings
    return LoadedDraft(executable, "draft_model", longest, _cache_bytes(configuration, dtype))


def _load_heads(
    target: ModelDirectory,
    chosen: SpeculationOptions,
    options: EngineOptions,
    device: Device,
    *,
    dtype: str,
    settings: Settings,
    say: Progress,
) -> LoadedDraft:
    assert chosen.model is not None, "the options ask for it"
    say("Opening the heads", 0, 1)
    base = target.decoder_configuration()
    directory = open_heads(find_model_directory(chosen.model, offline=settings.offline), base)
    if directory.method != chosen.method:
        raise InputError(
            f"speculation: {chosen.model} holds heads for the method {directory.method}, not "
            f"{chosen.method}; change the method"
        )
    heads = directory.heads
    graph = heads_graph(heads, dtype=dtype, cache_directory=settings.cache_directory)
    weights = directory.open_weights(target.open_weights())
    model = QuantizedModel(graph, weights)
    rounding = rounding_choice(options)
    if rounding is not None:
        schemes = rounding.schemes(graph)
        rounded = RoundedWeights(weights, schemes, graph)
        model = QuantizedModel(quantize_graph(graph, schemes), rounded, schemes)
    executable = compile_and_pack(model, device, settings=settings, say=say)
    if isinstance(heads, MedusaHeads):
        return LoadedDraft(executable, "medusa", base.max_position_embeddings, 0)
    beside = _cache_bytes(heads.layers, dtype)
    return LoadedDraft(executable, "eagle", base.max_position_embeddings, beside)


def _cache_bytes(configuration: ModelConfiguration, dtype: str) -> int:
    """What the cache of a model that guesses takes for 16 tokens: its keys and values are plain."""
    return CacheShape(
        num_layers=configuration.num_layers,
        num_kv_heads=configuration.num_kv_heads,
        head_dim=configuration.cached_size,
        form=CACHE_FORMATS[dtype],
        num_kinds=2 if configuration.caches_values else 1,
    ).bytes_per_block
