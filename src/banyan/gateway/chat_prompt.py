"""From the messages of a request to the prompt that the model reads, images included."""

from collections.abc import Sequence

from banyan.gateway.errors import refuse
from banyan.gateway.rendering import template_messages
from banyan.gateway.services import Services, in_thread
from banyan.gateway.wire.messages import ChatMessage
from banyan.models.chat_rendering import ChatRendering
from banyan.models.vision.image_prompts import image_places, take_images
from banyan.models.vision.media import Media


async def chat_prompt(
    services: Services, messages: Sequence[ChatMessage], rendering: ChatRendering
) -> tuple[list[int], tuple[Media, ...]]:
    """Return the tokens of a conversation, and its images at their places among them.

    Raises:
        ApiError: 400, there are images and the model sees none.
        RequestError: the template refuses the messages, or an image cannot be used.
    """
    shown = template_messages(messages)
    prompts = services.text.image_prompts
    if prompts is None:
        places = image_places(shown)
        if places:
            raise refuse(
                f"{places[0]} is an image, and the model {services.settings.model_name!r} sees "
                "none; send text only, or serve a vision-language model",
                parameter=places[0],
                code="unsupported_model",
            )
        return await in_thread(lambda: services.text.encode_chat(shown, rendering)), ()
    limits = services.settings.image_limits

    def write() -> tuple[list[int], tuple[Media, ...]]:
        left, images = take_images(shown, limits)
        written = prompts.write(left, images, rendering)
        return written.token_ids, written.media

    return await in_thread(write)
