"""What the API process knows of a model: where it is and how it reads text."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from banyan.engine.process.messages import FAKE_MODEL
from banyan.gateway.text import PromptText, plain_chat
from banyan.models.classifier import Classifier
from banyan.models.hub import find_model_directory
from banyan.models.speech.configuration import is_speech_model

_VOCABULARY = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class ServedText:
    """How a model reads text.

    Attributes:
        location: its directory.
        name: what clients call it unless the operator chooses.
        text: tokenizer and chat template.
        sampling_defaults: what it proposes.
        classifier: what it says of its labels, for models that score texts.
        chat_template: its text, empty without one.
        vocabulary: digest of its tokenizer; models with the same one can replace each other.
    """

    location: str
    name: str
    text: PromptText
    sampling_defaults: dict[str, float]
    classifier: Classifier | None = None
    chat_template: str = ""
    vocabulary: str = ""


def locate(model: str, *, offline: bool) -> str:
    """Find the directory of a model, downloading it if need be.

    Raises:
        ModelError: there is no such model.
    """
    return FAKE_MODEL if model == FAKE_MODEL else str(find_model_directory(model, offline=offline))


def open_text(
    model: str, *, offline: bool, task: str = "auto", max_image_tokens: int | None = None
) -> ServedText:
    """Read what the API process needs of a model: tokenizer, chat template, defaults.

    `max_image_tokens` is as in `EngineOptions`: both processes count the tokens of an image.
    """
    if model == FAKE_MODEL:
        # Pulls in NumPy, which the API process otherwise does without.
        from banyan.engine.fake import FakeTokenizer  # noqa: PLC0415

        return ServedText(FAKE_MODEL, FAKE_MODEL, PromptText(FakeTokenizer(), plain_chat), {})
    # Compiles templates and tokenizers, which the start of the engine need not wait for.
    from banyan.models.loading import open_model  # noqa: PLC0415
    from banyan.models.vision.loading import open_vision  # noqa: PLC0415

    location = find_model_directory(model, offline=offline)
    if is_speech_model(location):
        return _speech_text(model, location)
    directory = open_model(model, offline=offline, task=task)
    proposed = directory.generation
    defaults = {
        "temperature": proposed.temperature,
        "top_p": proposed.top_p,
        "top_k": proposed.top_k,
        "min_p": proposed.min_p,
        "repetition_penalty": proposed.repetition_penalty,
    }
    return ServedText(
        location=str(directory.path),
        name=_name_of(model),
        text=PromptText(
            directory.tokenizer,
            directory.render_chat,
            directory.pairs(),
            open_vision(directory.path, max_image_tokens=max_image_tokens),
        ),
        sampling_defaults={name: value for name, value in defaults.items() if value is not None},
        classifier=directory.classifier,
        chat_template="" if directory.chat_template is None else directory.chat_template.source,
        vocabulary=_digest(directory.path / _VOCABULARY),
    )


def _speech_text(model: str, location: Path) -> ServedText:
    """Read the tokenizer of a model that writes down speech; it has no other text."""
    from banyan.models.tokenizer import Tokenizer  # noqa: PLC0415

    text = PromptText(Tokenizer.read(location), plain_chat)
    vocabulary = _digest(location / _VOCABULARY)
    return ServedText(str(location), _name_of(model), text, {}, vocabulary=vocabulary)


def _name_of(model: str) -> str:
    return Path(model).resolve().name if Path(model).is_dir() else model


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
