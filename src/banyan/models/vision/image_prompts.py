"""Images in a conversation: taken out of its messages, then put into the prompt as placeholders.

What the gateway and `LLM.chat` share. Pure but for reading files that a caller in this process
names. Imports no NumPy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from banyan.foundation.errors import ImageError, RequestError
from banyan.models.chat_rendering import ORDINARY_RENDERING, ChatRendering
from banyan.models.vision.data_url import MAX_IMAGE_BYTES, image_bytes
from banyan.models.vision.image_file import MAX_PIXELS, image_size
from banyan.models.vision.media import Media
from banyan.models.vision.placeholders import expand_placeholders

Message = Mapping[str, Any]
RenderChat = Callable[[Sequence[Message], ChatRendering], str]

# Nobody writes it by accident, and no template changes it.
_MARK = "banyan7mark"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """How much of images one request may bring.

    Attributes:
        max_images: images of one request.
        max_bytes: of one image's file.
        max_pixels: of one image, by its header.
    """

    max_images: int = 16
    max_bytes: int = MAX_IMAGE_BYTES
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, slots=True)
class ChatImage:
    """An image of a conversation; `place` names the part that brought it."""

    content: bytes
    width: int
    height: int
    place: str


@dataclass(frozen=True, slots=True)
class WrittenPrompt:
    """A conversation as a model reads it: the text of its template, and the tokens with images."""

    text: str
    token_ids: list[int]
    media: tuple[Media, ...]


class Counted(Protocol):
    """How large an image is among tokens; `images.ImageSize` is one."""

    @property
    def num_tokens(self) -> int:
        """Places it takes among the tokens of a prompt."""
        ...


class Vision(Protocol):
    """What is needed of a model's eyes to write a prompt; `loading.VisionModel` is one."""

    @property
    def image_token_id(self) -> int:
        """Stands once for each image in what a template writes."""
        ...

    @property
    def processor(self) -> "Counts":
        """Counts the tokens of an image."""
        ...


class Counts(Protocol):
    """Counts the tokens of an image."""

    def size_of(self, width: int, height: int) -> Counted:
        """Say how many tokens an image of so many pixels takes."""
        ...


class ReadsText(Protocol):
    """What is needed of a tokenizer; `models.tokenizer.Tokenizer` is one."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Turn text into token ids."""
        ...

    def token_text(self, token_id: int) -> str | None:
        """Give the vocabulary entry of an id, or None."""
        ...


def image_places(messages: Sequence[Message]) -> list[str]:
    """Name the parts of messages that are images."""
    return [
        f"messages[{row}].content[{column}]"
        for row, message in enumerate(messages)
        for column, part in enumerate(_parts(message))
        if _is_image(part)
    ]


def take_images(
    messages: Sequence[Message], limits: ImageLimits, *, reads_files: bool = False
) -> tuple[list[Message], tuple[ChatImage, ...]]:
    """Take the images out of messages; `{"type": "image"}` is left in their places.

    A part is `{"type": "image_url", "image_url": {"url": "data:..."}}`, or, where `reads_files`,
    also `{"type": "image", "image": bytes or path}`.

    Raises:
        ImageError: an image cannot be used, or there are too many; names the part at fault.
    """
    places = image_places(messages)
    if len(places) > limits.max_images:
        place = places[limits.max_images]
        raise ImageError(
            f"the conversation has {len(places)} images; one request may bring "
            f"{limits.max_images}; {place} is the first too many",
            parameter=place,
        )
    images: list[ChatImage] = []
    shown: list[Message] = []
    for row, message in enumerate(messages):
        parts = _parts(message)
        if not any(map(_is_image, parts)):
            shown.append(message)
            continue
        left: list[Any] = []
        for column, part in enumerate(parts):
            if _is_image(part):
                place = f"messages[{row}].content[{column}]"
                images.append(_read(part, place, limits, reads_files=reads_files))
                left.append({"type": "image"})
            else:
                left.append(part)
        shown.append({**message, "content": left})
    return shown, tuple(images)


class ImagePrompts:
    """Writes the prompts of conversations for one model with eyes.

    Args:
        vision: counts tokens.
        render: writes the text of a conversation, with the placeholder of each image.
        tokenizer: the model's; it also says how the placeholder is written, for templates that
            know no images.
    """

    def __init__(
        self,
        vision: Vision,
        render: RenderChat,
        tokenizer: ReadsText,
    ) -> None:
        self._vision = vision
        self._render = render
        self._tokenizer = tokenizer
        self._image_token = tokenizer.token_text(vision.image_token_id) or ""

    def write(
        self,
        messages: Sequence[Message],
        images: Sequence[ChatImage],
        rendering: ChatRendering = ORDINARY_RENDERING,
    ) -> WrittenPrompt:
        """Give the prompt of a conversation, with its images at their places.

        `messages` and `images` are what `take_images` gave.

        Raises:
            RequestError: the template refused the messages, or they hold a placeholder as text.
            ImageError: an image has a shape that the model cannot look at.
        """
        fitted = self._fitted(messages, rendering)
        text = self._render(fitted, rendering)
        tokens = self._tokenizer.encode(text, add_special_tokens=rendering.add_special_tokens)
        counts = [self._count(image) for image in images]
        token_id = self._vision.image_token_id
        expanded, starts = expand_placeholders(tokens, counts, image_token_id=token_id)
        placed = zip(images, starts, counts, strict=True)
        media = [Media(image.content, start, count, image.place) for image, start, count in placed]
        return WrittenPrompt(text, expanded, tuple(media))

    def _count(self, image: ChatImage) -> int:
        try:
            return self._vision.processor.size_of(image.width, image.height).num_tokens
        except ImageError as error:
            raise ImageError(f"{image.place}: {error}", parameter=image.place) from error

    def _fitted(self, messages: Sequence[Message], rendering: ChatRendering) -> list[Message]:
        """Give contents as the template reads them: as texts, as lists of parts, or as either."""
        takes_lists = self._shows([{"type": "text", "text": _MARK}], rendering)
        takes_texts = self._shows(_MARK, rendering)
        fitted: list[Message] = []
        for message in messages:
            content = message.get("content")
            if isinstance(content, list) and not takes_lists:
                content = "\n".join(
                    self._image_token if _is_image(part) else str(part.get("text", ""))
                    for part in content
                )
            elif isinstance(content, str) and content and takes_lists and not takes_texts:
                content = [{"type": "text", "text": content}]
            fitted.append({**message, "content": content})
        return fitted

    def _shows(self, content: Any, rendering: ChatRendering) -> bool:
        """Whether the template writes the text of such a content, and nothing of its wrapping."""
        probe = ChatRendering(variables=rendering.variables, template=rendering.template)
        try:
            text = self._render([{"role": "user", "content": content}], probe)
        except RequestError:
            return False
        return _MARK in text and f"'{_MARK}" not in text


def _parts(message: Message) -> list[Any]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def _is_image(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in {"image_url", "image"}


def _read(part: Mapping[str, Any], place: str, limits: ImageLimits, *, reads_files: bool) -> Any:
    try:
        content = _content(part, limits, reads_files=reads_files)
        width, height = image_size(content, max_pixels=limits.max_pixels)
    except ImageError as error:
        raise ImageError(f"{place}: {error}", parameter=place) from error
    return ChatImage(content, width, height, place)


def _content(part: Mapping[str, Any], limits: ImageLimits, *, reads_files: bool) -> bytes:
    given = part.get("image") if reads_files else None
    if isinstance(given, bytes):
        return given
    if given is not None:
        try:
            return Path(given).read_bytes()
        except (OSError, TypeError, ValueError) as error:
            raise ImageError(f"the image {given!r} cannot be read: {error}") from error
    url = part.get("image_url")
    if isinstance(url, Mapping):
        url = url.get("url")
    if not isinstance(url, str):
        raise ImageError("the part holds no image; send {'image_url': {'url': 'data:...'}}")
    return image_bytes(url, max_bytes=limits.max_bytes)
