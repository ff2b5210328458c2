"""`LLM`: a model in this process, from prompts to answers in one call.

The door for Python users. It wires a loaded model to the engine and owns both until closed.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias, Unpack, cast

from banyan.engine.batch_generation import Progress, Prompt
from banyan.engine.chat_choices import ChatChoices, chat_rendering, template_messages
from banyan.engine.chat_prompt import chat_prompt
from banyan.engine.options import EngineOptions
from banyan.engine.outputs import RequestOutput
from banyan.engine.sampling import SamplingOptions
from banyan.engine.speculation_options import SpeculationOptions, read_speculation
from banyan.engine.starting.replicas import ReplicaAdapters, Replicas, load_replicas
from banyan.foundation.errors import InputError, RequestError
from banyan.foundation.settings import load_settings
from banyan.planner.plan import Plan
from banyan.planner.plan_file import print_plan

OnePrompt: TypeAlias = str | Sequence[int]
Messages: TypeAlias = Sequence[Mapping[str, Any]]
Adapters: TypeAlias = str | Sequence[str | None] | None


class LLM:
    """A language model; use it as a context manager or `close` it to give its memory back.

    Args:
        model: a directory or a hub id.
        device: a device name as `banyan devices` lists it.
        dtype: "float32", "bfloat16" or "auto" (the checkpoint's own).
        threads: CPU threads; None takes one per physical core.
        memory: most memory, such as "8GiB"; None takes what is free.
        max_model_len: longest prompt plus answer in tokens; None takes the model's limit, or what
            fits into memory.
        max_num_seqs: most sequences computed together.
        max_num_batched_tokens: most tokens of one step; None chooses.
        max_image_tokens: images are scaled down until they take no more; None takes the model's
            own limit.
        num_blocks: size of the KV cache in blocks of 16 tokens; None chooses by free memory.
        quantization: round ordinary weights while loading: "int8", "int4" or "fp8".
        quantization_output: the output matrix then: "int8", or "int4" for speed.
        activation: inputs of quantised layers: "plain", or "int8" to round them too.
        kv_cache_dtype: how keys and values are kept: "int8", "fp8", "int4", or "auto".
        deferred_experts: of the experts that a token visits, so many count one layer later.
        seed: makes requests without a seed of their own reproducible.
        enable_prefix_caching: reuse what was computed for equal beginnings of prompts.
        speculation: how tokens are guessed, as `SpeculationOptions`, a mapping of its fields or
            JSON: `{"method": "ngram"}`. None goes token by token.
        enable_lora: make room for low-rank adapters; see `load_adapter`.
        max_loras: adapters that one step can use; others that are loaded take turns.
        max_lora_rank: the largest rank an adapter may have.
        lora_dtype: how adapters are stored: "plain", "int8" (rounded), or "auto", which rounds them
            where the base is rounded.
        mode: "deterministic" gives a request the same tokens whatever is computed beside it.
        plan: a plan, or the file of one: the model is cut over its devices; of a plan with several
            replicas all serve, each the prompts that it would have done soonest.
        plan_workers: where devices of the plan are, see `EngineOptions`; workers of this host
            otherwise.
        plan_secret: file with the secret that workers of other hosts share.
        progress: called while the model loads with a stage, how much is done, how much there is.

    Raises:
        ModelError: the model cannot be used; one sentence says why.
        InputError: an option cannot be used.
    """

    # More arguments than elsewhere: these are vLLM's names, and users know them by heart.
    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        device: str = "cpu",
        dtype: str = "auto",
        threads: int | None = None,
        memory: str | None = None,
        max_model_len: int | None = None,
        max_num_seqs: int = 64,
        max_num_batched_tokens: int | None = None,
        max_image_tokens: int | None = None,
        num_blocks: int | None = None,
        quantization: str | None = None,
        quantization_output: str | None = None,
        activation: str | None = None,
        kv_cache_dtype: str = "auto",
        deferred_experts: int = 0,
        seed: int | None = None,
        enable_prefix_caching: bool = True,
        speculation: SpeculationOptions | Mapping[str, Any] | str | None = None,
        mode: str = "fast",
        enable_lora: bool = False,
        max_loras: int = 8,
        max_lora_rank: int = 16,
        lora_dtype: str = "auto",
        plan: Plan | str | os.PathLike[str] | None = None,
        plan_workers: Mapping[str, str] | None = None,
        plan_secret: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        options = EngineOptions(
            device=device,
            dtype=dtype,
            threads=threads,
            memory=memory,
            max_model_len=max_model_len,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            max_image_tokens=max_image_tokens,
            num_blocks=num_blocks,
            quantization=quantization,
            quantization_output=quantization_output,
            activation=activation,
            kv_cache_dtype=kv_cache_dtype,
            deferred_experts=deferred_experts,
            seed=seed,
            enable_prefix_caching=enable_prefix_caching,
            speculation=read_speculation(speculation),
            mode=mode,
            enable_lora=enable_lora,
            max_loras=max_loras,
            max_lora_rank=max_lora_rank,
            lora_dtype=lora_dtype,
            **_plan_options(plan, plan_workers, plan_secret),
        )
        self._replicas: Replicas | None = load_replicas(
            os.fspath(model), options, load_settings(os.environ), progress
        )

    def generate(
        self,
        prompts: OnePrompt | Sequence[OnePrompt],
        options: SamplingOptions | Sequence[SamplingOptions] | None = None,
        *,
        adapter: Adapters = None,
        progress: Progress | None = None,
    ) -> list[RequestOutput]:
        """Answer one prompt or many, each a text or a list of token ids; results in order.

        Args:
            prompts: texts get the tokenizer's special tokens, token ids are taken as they are.
            options: for all prompts, or one for each; None takes what the model proposes.
            adapter: name of a loaded adapter for all prompts, or one for each; None is the base.
            progress: called each time an answer is finished.

        Raises:
            RequestError: a prompt or its options cannot be served; nothing is generated then.
        """
        tokenizer = self._open().first.directory.tokenizer
        batch = [
            Prompt(tokenizer.encode(prompt), prompt)
            if isinstance(prompt, str)
            else Prompt([int(token_id) for token_id in prompt])
            for prompt in _as_list(prompts)
        ]
        choices = self._options_for(batch, options)
        return self._open().run(_with_adapters(batch, adapter), choices, progress)

    def chat(
        self,
        messages: Messages | Sequence[Messages],
        options: SamplingOptions | Sequence[SamplingOptions] | None = None,
        *,
        adapter: Adapters = None,
        progress: Progress | None = None,
        **template: Unpack[ChatChoices],
    ) -> list[RequestOutput]:
        """Answer one conversation or many, each a list of {"role": ..., "content": ...}.

        A content is a text or a list of parts: {"type": "text", "text": ...} and, for a model that
        sees, {"type": "image", "image": path or bytes} or OpenAI's image_url with a data URL.

        Args:
            messages: one conversation or several.
            options: for all conversations, or one for each; None takes what the model proposes.
            adapter: as in `generate`.
            progress: as in `generate`.
            template: `tools` and other ways to use the chat template; see `ChatChoices`.

        Raises:
            RequestError: the model has no chat template, or it refuses the messages.
            ImageError: an image cannot be used.
        """
        rendering = chat_rendering(template)
        loaded = self._open().first
        if not messages:
            raise RequestError("messages is empty; give at least one message", parameter="messages")
        many = [messages] if isinstance(messages[0], Mapping) else messages
        vision = None if loaded.eyes is None else loaded.eyes.vision
        batch = [
            chat_prompt(loaded.directory, vision, template_messages(cast(Messages, one)), rendering)
            for one in many
        ]
        choices = self._options_for(batch, options)
        return self._open().run(_with_adapters(batch, adapter), choices, progress)

    def load_adapter(self, name: str, path: str | os.PathLike[str]) -> None:
        """Load a low-rank adapter in the format of PEFT; prompts then choose it by `name`.

        Raises:
            InputError: this LLM was made without `enable_lora`, or the name is taken.
            ModelError: the adapter cannot be used with this model.
        """
        self._adapters().add(name, os.fspath(path))

    def unload_adapter(self, name: str) -> None:
        """Drop an adapter; raises `InputError` when there is none of this name."""
        self._adapters().remove(name)

    @property
    def default_options(self) -> SamplingOptions:
        """Options that the model's generation_config.json proposes."""
        return self._open().first.default_options

    def report(self) -> str:
        """Say in a few lines what was compiled and how much of the graph our compiler covers."""
        return self._open().report()

    def close(self) -> None:
        """Stop the threads and give the memory back; closing twice is no error."""
        if self._replicas is not None:
            self._replicas.close()
            self._replicas = None

    def __enter__(self) -> "LLM":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> Replicas:
        if self._replicas is None:
            raise InputError("this LLM is closed; make a new one")
        return self._replicas

    def _adapters(self) -> ReplicaAdapters:
        libraries = self._open().adapters
        if libraries is None:
            raise InputError("this LLM has no room for adapters; make it with enable_lora=True")
        return libraries

    def _options_for(
        self, prompts: Sequence[Prompt], options: SamplingOptions | Sequence[SamplingOptions] | None
    ) -> list[SamplingOptions]:
        if options is None:
            options = self.default_options
        if isinstance(options, SamplingOptions):
            return [options] * len(prompts)
        if len(options) != len(prompts):
            raise InputError(
                f"{len(prompts)} prompts but {len(options)} options; give one for each, or one"
            )
        return list(options)


def _plan_options(
    plan: Plan | str | os.PathLike[str] | None,
    workers: Mapping[str, str] | None,
    secret: str | os.PathLike[str] | None,
) -> dict[str, Any]:
    """What `EngineOptions` takes of a plan."""
    return {
        "plan": _plan_text(plan),
        "plan_workers": tuple((workers or {}).items()),
        "plan_secret": None if secret is None else os.fspath(secret),
    }


def _plan_text(plan: Plan | str | os.PathLike[str] | None) -> str | None:
    if plan is None or isinstance(plan, Plan):
        return None if plan is None else print_plan(plan)
    try:
        return Path(plan).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"the plan {os.fspath(plan)} cannot be read: {error}") from error


def _with_adapters(prompts: Sequence[Prompt], adapter: Adapters) -> list[Prompt]:
    names = [adapter] * len(prompts) if adapter is None or isinstance(adapter, str) else adapter
    if len(names) != len(prompts):
        raise InputError(
            f"{len(prompts)} prompts but {len(names)} adapters; give one for each, or one"
        )
    return [replace(one, adapter=name) for one, name in zip(prompts, names, strict=True)]


def _as_list(prompts: OnePrompt | Sequence[OnePrompt]) -> list[OnePrompt]:
    if isinstance(prompts, str):
        return [prompts]
    if len(prompts) > 0 and not isinstance(prompts[0], str) and not _is_list(prompts[0]):
        return [cast(Sequence[int], prompts)]
    return list(cast(Sequence[OnePrompt], prompts))


def _is_list(value: object) -> bool:
    try:
        iter(value)  # type: ignore[call-overload]
    except TypeError:
        return False
    return True
