"""Images in chat and responses, in front of a scripted engine."""

import base64
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from banyan.foundation.errors import ImageError
from banyan.models.vision.image_prompts import ImageLimits
from tests.gateway.scripted import ScriptedBackend, chat_body, post
from tests.models.vision.pictures import bomb, png

PATH = "/v1/chat/completions"


@dataclass(frozen=True)
class Size:
    num_tokens: int


class OneTokenPerFourPixels:
    """Counts; pictures wider than 100 pixels have no shape it knows."""

    def size_of(self, width: int, height: int) -> Size:
        if width > 100:
            raise ImageError(f"the image is {width} pixels wide; at most 100 are possible")
        return Size(width * height // 4)


class Vision:
    """Eyes of a model whose template writes a zero byte for a picture."""

    image_token_id = 0
    processor = OneTokenPerFourPixels()


def url_of(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def part(content: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url_of(content)}}


def user(*parts: Any) -> list[dict[str, Any]]:
    texts = [{"type": "text", "text": one} if isinstance(one, str) else one for one in parts]
    return [{"role": "user", "content": texts}]


def ask(messages: Any, backend: ScriptedBackend | None = None, **fields: Any) -> httpx.Response:
    limits = fields.pop("limits", ImageLimits())
    return post(
        PATH,
        chat_body(messages=messages, **fields),
        backend=backend or ScriptedBackend(),
        vision=Vision(),
        image_limits=limits,
    )


def test_a_picture_becomes_as_many_tokens_as_it_has_rows_and_comes_along() -> None:
    backend = ScriptedBackend()
    content = png(4, 3)
    reply = ask(user("Look:", part(content), "What?"), backend).json()
    ((tokens, _),) = backend.seen
    assert bytes(tokens) == b"user: Look:|\0\0\0|What?\nassistant:"
    (media,) = backend.media[0]
    assert (media.content, media.start, media.num_tokens) == (content, 12, 3)
    assert media.place == "messages[0].content[1]"
    assert reply["usage"]["prompt_tokens"] == len(tokens)


def test_several_pictures_keep_their_order_over_several_turns() -> None:
    backend = ScriptedBackend()
    messages = [
        *user(part(png(4, 1)), part(png(4, 2))),
        {"role": "assistant", "content": "Two."},
        *user("And", {"type": "image_url", "image_url": url_of(png(4, 3))}),
    ]
    assert ask(messages, backend).status_code == 200
    places = [(media.place, media.num_tokens) for media in backend.media[0]]
    assert places == [
        ("messages[0].content[0]", 1),
        ("messages[0].content[1]", 2),
        ("messages[2].content[1]", 3),
    ]


def test_text_alone_still_comes_without_media() -> None:
    backend = ScriptedBackend()
    assert ask(user("Hi"), backend).status_code == 200
    assert backend.media == [()]


def refusal(reply: httpx.Response) -> tuple[str, str, str | None]:
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    return error["message"], error["param"], error["code"]


def test_a_model_without_eyes_says_so_before_anything_is_decoded() -> None:
    message, parameter, code = refusal(post(PATH, chat_body(messages=user("Hi", part(b"x")))))
    assert message == (
        "messages[0].content[1] is an image, and the model 'tiny' sees none; send text only, or "
        "serve a vision-language model"
    )
    assert (parameter, code) == ("messages[0].content[1]", "unsupported_model")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello", "these 5 bytes are not an image"),
        (b"\xff\xd8\xff\xe0 cut off", "are not an image"),
        (bomb(9000, 8000), "9000 x 8000 pixels; at most 64000000 are allowed"),
        (bomb(60000, 60000), "the image is too large"),
        (png(101, 2), "101 pixels wide; at most 100"),
    ],
)
def test_what_cannot_be_looked_at_is_refused_with_its_place(content: bytes, words: str) -> None:
    backend = ScriptedBackend()
    message, parameter, _ = refusal(ask(user("Hi", part(content)), backend))
    assert message.startswith("messages[0].content[1]: ")
    assert words in message
    assert parameter == "messages[0].content[1]"
    assert backend.seen == []


@pytest.mark.parametrize("url", ["https://example.org/cat.png", "file:///etc/passwd", "cat.png"])
def test_nothing_is_fetched(url: str) -> None:
    wish = {"type": "image_url", "image_url": {"url": url}}
    message, parameter, _ = refusal(ask(user(wish)))
    assert "this server fetches nothing; send the image itself" in message
    assert parameter == "messages[0].content[0]"


def test_the_limits_are_the_operators() -> None:
    limits = ImageLimits(max_images=2, max_bytes=200, max_pixels=40)
    assert ask(user(part(png(4, 4)), part(png(4, 4))), limits=limits).status_code == 200
    message, parameter, _ = refusal(ask(user(*[part(png(4, 4))] * 3), limits=limits))
    assert "3 images; one request may bring 2" in message
    assert parameter == "messages[0].content[2]"
    message, _, _ = refusal(ask(user(part(png(8, 6))), limits=limits))
    assert "8 x 6 pixels; at most 40 are allowed" in message
    message, _, _ = refusal(ask(user(part(png(4, 4) + bytes(200))), limits=limits))
    assert "at most 200 are allowed" in message


def test_rows_count_for_the_context() -> None:
    message, parameter, code = refusal(ask(user(part(png(40, 8)))))
    assert "tokens, but the model takes at most 63" in message
    assert (parameter, code) == ("messages", "context_length_exceeded")


def test_text_that_holds_a_placeholder_is_not_taken_for_a_picture() -> None:
    message, _, _ = refusal(ask(user("\0")))
    assert "1 places for images, but 0 images came" in message


def test_a_prompt_with_pictures_is_not_cut() -> None:
    message, parameter, _ = refusal(ask(user(part(png())), truncate_prompt_tokens=5))
    assert parameter == "truncate_prompt_tokens"
    assert "cannot cut a conversation with images" in message


def test_tokenize_counts_what_a_picture_takes() -> None:
    body = {"messages": user(part(png(4, 3)))}
    reply = post("/tokenize", body, vision=Vision()).json()
    assert bytes(reply["tokens"]) == b"user: \0\0\0\nassistant:"


def test_responses_take_input_images_and_name_their_place() -> None:
    backend = ScriptedBackend()
    content = png(4, 3)

    def body(url: str) -> dict[str, Any]:
        parts = [{"type": "input_text", "text": "Look:"}, {"type": "input_image", "image_url": url}]
        return {"model": "tiny", "input": [{"role": "user", "content": parts}]}

    reply = post("/v1/responses", body(url_of(content)), backend=backend, vision=Vision())
    assert reply.status_code == 200, reply.text
    assert backend.media[0][0].content == content
    assert reply.json()["usage"]["input_tokens"] == len(backend.seen[0][0])
    wrong = post("/v1/responses", body(url_of(b"text")), vision=Vision())
    message, parameter, _ = refusal(wrong)
    assert (message[:21], parameter) == ("input[0].content[1]: ", "input[0].content[1]")
    blind = post("/v1/responses", body(url_of(content)))
    assert refusal(blind)[1] == "input[0].content[1]"
