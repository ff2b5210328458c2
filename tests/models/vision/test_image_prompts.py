from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from banyan.foundation.errors import ImageError, RequestError
from banyan.models.chat_rendering import ChatRendering
from banyan.models.chat_template import ChatTemplate
from banyan.models.vision.image_prompts import (
    ChatImage,
    ImageLimits,
    ImagePrompts,
    image_places,
    take_images,
)
from tests.models.vision.pictures import png

QWEN = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'image' %}<image>"
    "{% elif 'text' in part %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAVA = (
    "{% for message in messages %}{{ message.role.upper() }}: "
    "{% for part in message.content | selectattr('type', 'equalto', 'image') %}<image>\n"
    "{% endfor %}{% for part in message.content | selectattr('type', 'equalto', 'text') %}"
    "{{ part.text }} {% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
PLAIN = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
IMAGE = 7
ASKED: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]},
]


@dataclass(frozen=True)
class Size:
    num_tokens: int


class Counts:
    def size_of(self, width: int, height: int) -> Size:
        return Size(width)


class Vision:
    image_token_id = IMAGE
    processor = Counts()


class Letters:
    """A token for each letter, and one for the placeholder."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        pieces = text.split("<image>")
        tokens = [100 + ord(letter) for letter in pieces[0]]
        for piece in pieces[1:]:
            tokens += [IMAGE, *(100 + ord(letter) for letter in piece)]
        return tokens

    def token_text(self, token_id: int) -> str | None:
        return "<image>" if token_id == IMAGE else None


def prompts(source: str) -> ImagePrompts:
    template = ChatTemplate(source)

    def render(messages: Sequence[Mapping[str, Any]], rendering: ChatRendering) -> str:
        return template.render(messages, rendering)

    return ImagePrompts(Vision(), render, Letters())


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            QWEN,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<image>What?<|im_end|>\n"
            "<|im_start|>assistant\n",
        ),
        (LLAVA, "SYSTEM: Be brief. USER: <image>\nWhat? ASSISTANT:"),
        (PLAIN, "system: Be brief.\nuser: <image>\nWhat?\nassistant:"),
    ],
    ids=["qwen", "llava", "plain"],
)
def test_each_kind_of_template_gets_contents_as_it_reads_them(source: str, expected: str) -> None:
    written = prompts(source).write(ASKED, [ChatImage(b"x", 3, 9, "here")])
    assert written.text == expected
    (media,) = written.media
    assert (media.start, media.num_tokens, media.place) == (expected.index("<image>"), 3, "here")
    assert written.token_ids[media.start :][:4] == [IMAGE] * 3 + [
        100 + ord(expected[media.start + 7])
    ]


@pytest.mark.parametrize("source", [QWEN, LLAVA, PLAIN], ids=["qwen", "llava", "plain"])
def test_a_last_message_with_an_image_can_be_continued(source: str) -> None:
    rendering = ChatRendering(add_generation_prompt=False, continue_final_message=True)
    messages = [*ASKED, {"role": "assistant", "content": "A ca"}]
    written = prompts(source).write(messages, [ChatImage(b"x", 3, 9, "here")], rendering)
    assert written.text.endswith("A ca")


def test_a_template_that_fails_on_everything_still_says_why() -> None:
    source = "{{ raise_exception('no') }}"
    with pytest.raises(RequestError, match="no"):
        prompts(source).write(ASKED, [])


def test_a_caller_in_this_process_may_give_bytes_and_paths(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(5, 4))
    messages: list[dict[str, Any]] = [
        {
            "role": "user",
            "content": [
                {"type": "image", "image": path},
                {"type": "image", "image": png(3, 2)},
                {"type": "text", "text": "?"},
            ],
        }
    ]
    left, images = take_images(messages, ImageLimits(), reads_files=True)
    assert [(image.width, image.height) for image in images] == [(5, 4), (3, 2)]
    assert left[0]["content"][:2] == [{"type": "image"}] * 2
    assert messages[0]["content"][0] == {"type": "image", "image": path}  # nothing was changed
    with pytest.raises(ImageError, match="holds no image"):
        take_images(messages, ImageLimits())
    messages[0]["content"][0] = {"type": "image", "image": tmp_path / "missing.png"}
    with pytest.raises(ImageError, match=r"messages\[0\].content\[0\]: .* cannot be read"):
        take_images(messages, ImageLimits(), reads_files=True)


def test_places_are_those_of_pictures_only() -> None:
    assert image_places([{"role": "user"}, *ASKED]) == ["messages[2].content[0]"]
