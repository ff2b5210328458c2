"""From a conversation of a caller in this process to a prompt, images included."""

from collections.abc import Mapping, Sequence
from typing import Any

from banyan.engine.batch_generation import Prompt
from banyan.foundation.errors import RequestError
from banyan.models.chat_rendering import ORDINARY_RENDERING, ChatRendering
from banyan.models.loading import ModelDirectory
from banyan.models.vision.image_prompts import (
    ImageLimits,
    ImagePrompts,
    Vision,
    image_places,
    take_images,
)


def chat_prompt(
    directory: ModelDirectory,
    vision: Vision | None,
    messages: Sequence[Mapping[str, Any]],
    rendering: ChatRendering = ORDINARY_RENDERING,
) -> Prompt:
    """Write the prompt of a conversation; files of images that it names are read.

    Raises:
        RequestError: the model has no chat template, or it refuses the messages.
        ImageError: an image cannot be used.
    """
    tokenizer = directory.tokenizer
    if vision is None:
        places = image_places(messages)
        if places:
            raise RequestError(
                f"{places[0]} is an image, and {directory.name} sees none; use a "
                "vision-language model",
                parameter=places[0],
            )
        text = directory.render_chat(messages, rendering)
        return Prompt(tokenizer.encode(text, add_special_tokens=False), text)
    prompts = ImagePrompts(vision, directory.render_chat, tokenizer)
    left, images = take_images(messages, ImageLimits(), reads_files=True)
    written = prompts.write(left, images, rendering)
    return Prompt(written.token_ids, written.text, media=written.media)
