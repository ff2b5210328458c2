"""Open a model directory: everything that is known before the first weight is read.

The door of this layer for the engine and the command line. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from banyan.foundation.errors import ModelError, RequestError
from banyan.models.chat_rendering import ORDINARY_RENDERING, ChatRendering
from banyan.models.chat_template import ChatTemplate, Message, read_chat_template
from banyan.models.checkpoint_names import plain_name
from banyan.models.classifier import Classifier
from banyan.models.configuration import (
    EncoderConfiguration,
    ModelConfiguration,
    read_configuration,
)
from banyan.models.hub import find_model_directory
from banyan.models.json_fields import Fields
from banyan.models.pairs import (
    AnswerTokens,
    InstructedPairs,
    JoinedPairs,
    Pairs,
    TemplatePairs,
    read_answer_tokens,
)
from banyan.models.quantisation.settings import QuantisationSettings, read_quantisation
from banyan.models.task import Task, choose_task
from banyan.models.tokenizer import Tokenizer

if TYPE_CHECKING:
    from banyan.models.pooling import Pooling
    from banyan.models.weights import CheckpointWeights


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """What `generation_config.json` proposes; None where it is silent.

    `eos_token_ids` end an answer: those of the generation file, or of config.json without one.
    """

    eos_token_ids: tuple[int, ...] = ()
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None


@dataclass(frozen=True, slots=True)
class ModelDirectory:
    """One opened model.

    Attributes:
        name: what the caller asked for.
        chat_template: None when the model has none.
        pooling: there for models that make vectors only.
        quantisation: how the weights are stored when they are no floats.
        task: what the model is used for.
        answers: the words of a language model that reranks.
    """

    name: str
    path: Path
    configuration: ModelConfiguration | EncoderConfiguration
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None
    generation: GenerationDefaults
    pooling: "Pooling | None"
    quantisation: QuantisationSettings | None = None
    task: Task = "generate"
    answers: AnswerTokens | None = None

    @property
    def classifier(self) -> Classifier | None:
        """The labels of a model that scores texts; a reranking language model has one score."""
        if self.answers is not None:
            return Classifier(("relevance",), probability="sigmoid", relevance="sigmoid")
        return self.configuration.classifier

    def pairs(self) -> Pairs:
        """Give what makes one prompt of two texts."""
        if self.answers is None:
            return JoinedPairs(self.tokenizer)
        template = self.chat_template
        if template is not None and template.knows_roles("query", "document"):
            return TemplatePairs(self.tokenizer, template.render)
        return InstructedPairs(self.tokenizer)

    def decoder_configuration(self) -> ModelConfiguration:
        """Give the configuration of a model that writes text, or refuse an encoder."""
        if isinstance(self.configuration, EncoderConfiguration):
            raise ModelError(
                f"{self.name} is an encoder ({self.configuration.architecture}) and writes no "
                "text; use it for embeddings"
            )
        return self.configuration

    def encoder_configuration(self) -> EncoderConfiguration:
        """Give the configuration of an encoder, or refuse a decoder."""
        if isinstance(self.configuration, ModelConfiguration):
            raise ModelError(
                f"{self.name} is a text model ({self.configuration.architecture}) and no encoder"
            )
        return self.configuration

    def open_weights(self) -> "CheckpointWeights":
        """Open and validate the weight files; nothing but their headers is read."""
        # Imports NumPy, which the API process, that only reads text, does without.
        from banyan.models.weights import CheckpointWeights  # noqa: PLC0415

        # BertForMaskedLM and its kin keep the encoder under "bert."; BertModel does not. Decoders
        # keep their layers under "model.", but not those saved without their last layer.
        if isinstance(self.configuration, EncoderConfiguration):
            return CheckpointWeights(self.path, prefix=self.configuration.weight_prefix)
        if self.configuration.sees_images:
            return CheckpointWeights(self.path, renamed=plain_name)
        return CheckpointWeights(self.path, lacking="model.")

    def render_chat(
        self, messages: Sequence[Message], rendering: ChatRendering = ORDINARY_RENDERING
    ) -> str:
        """Give the prompt of a conversation, by default ready for the answer.

        Raises:
            RequestError: the model has no chat template, or the template refused the messages.
        """
        if rendering.template is not None:
            own = self.chat_template or ChatTemplate("", special_tokens=self.tokenizer.named_tokens)
            return own.replaced_by(rendering.template).render(messages, rendering)
        if self.chat_template is None:
            raise RequestError(
                f"{self.name} has no chat template; send the finished prompt to /v1/completions",
                parameter="messages",
            )
        return self.chat_template.render(messages, rendering)


def open_model(path_or_id: str, *, offline: bool = False, task: str = "auto") -> ModelDirectory:
    """Open a model by directory or hub id, for a task or for what its files say it is for.

    Raises:
        InputError: the model cannot do this task.
        ModelError: not found, damaged or incomplete; one sentence says what.
        UnsupportedModelError: an architecture or feature that is not known here.
    """
    path = find_model_directory(path_or_id, offline=offline)
    configuration = read_configuration(path)
    tokenizer = Tokenizer.read(path)
    chosen = choose_task(
        path,
        architecture=configuration.architecture,
        is_encoder=isinstance(configuration, EncoderConfiguration),
        asked=task,
    )
    if isinstance(configuration, ModelConfiguration) and chosen == "embed":
        configuration = replace(configuration, output="hidden")
    answers = None
    if chosen == "rerank" and configuration.classifier is None:
        answers = read_answer_tokens(path, tokenizer)
    return ModelDirectory(
        name=path_or_id,
        path=path,
        configuration=configuration,
        tokenizer=tokenizer,
        chat_template=read_chat_template(path, special_tokens=tokenizer.named_tokens),
        generation=_read_generation(path, configuration),
        pooling=_read_pooling(path, configuration) if chosen == "embed" else None,
        quantisation=read_quantisation(path),
        task=chosen,
        answers=answers,
    )


def _read_pooling(
    path: Path, configuration: ModelConfiguration | EncoderConfiguration
) -> "Pooling":
    from banyan.models.pooling import read_pooling  # noqa: PLC0415  (NumPy, as above)

    if isinstance(configuration, EncoderConfiguration):
        return read_pooling(path, max_positions=configuration.max_tokens)
    # Only the last token of a decoder has seen the whole text.
    longest = configuration.max_position_embeddings
    return read_pooling(path, max_positions=longest, default="lasttoken")


def _read_generation(
    path: Path, configuration: ModelConfiguration | EncoderConfiguration
) -> GenerationDefaults:
    if isinstance(configuration, EncoderConfiguration):
        return GenerationDefaults()
    file = path / "generation_config.json"
    fields = Fields.read(file) if file.is_file() else Fields({}, str(file))
    return GenerationDefaults(
        eos_token_ids=fields.integers("eos_token_id") or configuration.eos_token_ids,
        temperature=fields.optional_number("temperature"),
        top_p=fields.optional_number("top_p"),
        top_k=fields.integer("top_k", minimum=0) if fields.has("top_k") else None,
        min_p=fields.optional_number("min_p"),
        repetition_penalty=fields.optional_number("repetition_penalty"),
    )
