"""Tiny Qwen2-VL and LLaVA behind running servers, asked by OpenAI's SDK.

The tokens are those of transformers, which opens the same files: its tokenizer and template write
the prompt, its image processor cuts the picture, its model answers greedily.
"""

import base64
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
import transformers
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from banyan import LLM, SamplingOptions
from tests.conftest import PROGRAM_CACHE
from tests.end_to_end.servers import Server, running_server
from tests.models.vision.pictures import bomb, file_of
from tests.models.vision_checkpoints import IMAGE_TOKEN, SIDE, make_vision_checkpoint

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

# Qwen2-VL's takes texts and lists, LLaVA's nothing but lists; both as their models have them.
TEMPLATES = {
    "qwen2_vl": (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
        "{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in "
        "content or 'image_url' in content %}<image>{% elif 'text' in content %}"
        "{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "llava": (
        "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
        "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
        "{{ '<image>\n' }}{% endfor %}"
        "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
        "{{ content['text'] + ' ' }}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    ),
}
NUM_TOKENS = 12


def photo(number: int, width: int = 40, height: int = 28) -> Image.Image:
    noise = torch.randint(
        0, 256, (height, width, 3), generator=torch.Generator().manual_seed(number)
    )
    return Image.fromarray(noise.to(torch.uint8).numpy(), "RGB")


@dataclass(frozen=True)
class Seeing:
    """A running server and the same model in transformers."""

    server: Server
    kind: str
    directory: Path

    def expected(self, pieces: Sequence[str | Image.Image]) -> list[int]:
        """What transformers answers to one message."""
        parts = [
            {"type": "text", "text": piece} if isinstance(piece, str) else {"type": "image"}
            for piece in pieces
        ]
        images = [piece for piece in pieces if not isinstance(piece, str)]
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(self.directory)
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False
        )
        given: dict[str, Any] = {}
        if self.kind == "llava":
            counts = [(SIDE // 4) ** 2] * len(images)
            if images:
                processor = CLIPImageProcessorPil.from_pretrained(self.directory)
                given = dict(processor(images=images, return_tensors="pt"))
        else:
            qwen = Qwen2VLImageProcessorPil.from_pretrained(self.directory)
            given = dict(qwen(images=images, return_tensors="pt")) if images else {}
            counts = [int(grid.prod()) // 4 for grid in given.get("image_grid_thw", ())]
        ids: list[int] = []
        left = iter(counts)
        for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
            ids += [token] * (next(left) if token == IMAGE_TOKEN else 1)
        tokens = torch.tensor([ids])
        if self.kind != "llava":
            given["mm_token_type_ids"] = (tokens == IMAGE_TOKEN).int()
        names = {"llava": "LlavaForConditionalGeneration"}
        name = names.get(self.kind, "Qwen2VLForConditionalGeneration")
        model = getattr(transformers, name).from_pretrained(self.directory).eval()
        written = model.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            do_sample=False,
            temperature=None,
            top_p=None,
            max_new_tokens=NUM_TOKENS,
            **given,
        )
        answer: list[int] = written[0, len(ids) :].tolist()
        return answer

    def ask(self, pieces: Sequence[str | Image.Image], **fields: Any) -> Any:
        """Ask the server with OpenAI's SDK."""
        return self.server.sdk().chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": parts_of(pieces)}],  # type: ignore[list-item,misc]
            max_tokens=NUM_TOKENS,
            temperature=0.0,
            extra_body={"return_token_ids": True},
            **fields,
        )


def url_of(image: Image.Image | bytes) -> str:
    content = image if isinstance(image, bytes) else file_of(image)
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def parts_of(pieces: Sequence[str | Image.Image | bytes]) -> list[dict[str, Any]]:
    return [
        {"type": "text", "text": piece}
        if isinstance(piece, str)
        else {"type": "image_url", "image_url": {"url": url_of(piece)}}
        for piece in pieces
    ]


def make(kind: str, directory: Path) -> Path:
    make_vision_checkpoint(kind, directory)
    path = directory / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings["chat_template"] = TEMPLATES[kind]
    path.write_text(json.dumps(settings))
    return directory


@pytest.fixture(scope="module", params=["qwen2_vl", pytest.param("llava", marks=pytest.mark.wide)])
def seeing(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    program_cache: dict[str, str],
) -> Iterator[Seeing]:
    directory = make(request.param, tmp_path_factory.mktemp(request.param))
    options = ["--served-model-name", "tiny", "--threads", "2", "--max-images", "3"]
    with running_server(str(directory), options, environment=program_cache) as server:
        yield Seeing(server, request.param, directory)


TALKS: tuple[Sequence[str | Image.Image], ...] = (
    ("Look at this: ", photo(1), "What is it?"),
    (photo(2, 23, 57), " or ", photo(3, 31, 30), "Which one?"),
    ("The tree has roots.",),
)


def test_answers_are_those_of_transformers_alone_and_together(seeing: Seeing) -> None:
    expected = [seeing.expected(talk) for talk in TALKS]
    assert len({tuple(tokens) for tokens in expected}) == len(TALKS)
    alone = [seeing.ask(talk).choices[0].token_ids for talk in TALKS]
    assert alone == expected
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(seeing.ask, [*TALKS, *TALKS]))
    assert [reply.choices[0].token_ids for reply in together] == [*expected, *expected]


def test_the_same_image_is_found_again_and_another_is_not(seeing: Seeing) -> None:
    first, again = (seeing.ask(["Here: ", photo(7), "and?"]) for _ in range(2))
    other = seeing.ask(["Here: ", photo(8), "and?"])
    assert again.choices[0].token_ids == first.choices[0].token_ids
    assert first.usage.prompt_tokens == again.usage.prompt_tokens == other.usage.prompt_tokens
    assert first.usage.prompt_tokens >= 36
    assert again.usage.prompt_tokens_details.cached_tokens >= 32
    assert other.usage.prompt_tokens_details.cached_tokens <= 16
    assert other.choices[0].token_ids == seeing.expected(["Here: ", photo(8), "and?"])
    assert seeing.server.metric("banyan_images_encoded_total") >= 2


def test_a_stream_and_a_response_say_the_same(seeing: Seeing) -> None:
    whole = seeing.ask(TALKS[0]).choices[0].message.content
    stream = seeing.ask(TALKS[0], stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == whole
    parts = [
        {"type": "input_text", "text": piece}
        if isinstance(piece, str)
        else {"type": "input_image", "image_url": url_of(piece), "detail": "auto"}
        for piece in TALKS[0]
    ]
    response = seeing.server.sdk().responses.create(
        model="tiny",
        input=[{"role": "user", "content": parts}],  # type: ignore[list-item,misc]
        temperature=0.0,
        max_output_tokens=NUM_TOKENS,
    )
    assert response.output_text == whole


def test_bad_images_are_refused_with_their_place_and_the_server_goes_on(seeing: Seeing) -> None:
    sdk = seeing.server.sdk()
    cut = file_of(photo(1, 300, 300))[:-2000]
    for content, words in (
        (b"hello", "not an image"),
        (bomb(20_000, 20_000), "too large"),
        (bomb(9_000, 8_000), "9000 x 8000 pixels"),
        (cut, "damaged"),
    ):
        with pytest.raises(openai.BadRequestError, match=words) as caught:
            sdk.chat.completions.create(
                model="tiny",
                messages=[{"role": "user", "content": parts_of(["a", content])}],  # type: ignore[list-item,misc]
            )
        assert caught.value.param == "messages[0].content[1]"
        assert str(caught.value.body).count("messages[0].content[1]: ") == 1
    for url in ("https://example.org/a.png", "file:///etc/passwd"):
        with pytest.raises(openai.BadRequestError, match="fetches nothing"):
            sdk.chat.completions.create(
                model="tiny",
                messages=[
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": url}}],
                    }
                ],
            )
    with pytest.raises(openai.BadRequestError, match="one request may bring 3"):
        seeing.ask([photo(1)] * 4)
    assert seeing.ask(TALKS[0]).choices[0].token_ids == seeing.expected(TALKS[0])


def test_a_reader_that_leaves_frees_everything(seeing: Seeing) -> None:
    seeing.ask(TALKS[2])  # a server that was asked nothing yet has not counted its blocks
    before = seeing.server.metric("banyan_blocks_free")
    stream = seeing.ask(TALKS[1], stream=True)
    next(iter(stream))
    stream.close()
    seeing.ask(TALKS[2])
    assert seeing.server.metric("banyan_blocks_free") == before


def test_a_model_in_this_process_sees_too(seeing: Seeing, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    photo(1).save(path)
    parts = [
        {"type": "text", "text": "Look at this: "},
        {"type": "image", "image": path},
        {"type": "text", "text": "What is it?"},
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BANYAN_CACHE", str(PROGRAM_CACHE))
        with LLM(seeing.directory, threads=2, num_blocks=80) as llm:
            options = SamplingOptions(temperature=0.0, max_tokens=NUM_TOKENS)
            (answer,) = llm.chat([{"role": "user", "content": parts}], options)
    assert list(answer.outputs[0].token_ids) == seeing.expected(TALKS[0])


def test_an_image_takes_no_more_tokens_than_the_operator_wants(seeing: Seeing) -> None:
    part = {"type": "image", "image": file_of(photo(1, 200, 150))}
    options = SamplingOptions(temperature=0.0, max_tokens=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BANYAN_CACHE", str(PROGRAM_CACHE))
        with LLM(seeing.directory, threads=2, num_blocks=80, max_image_tokens=20) as llm:
            (answer,) = llm.chat([{"role": "user", "content": [part]}], options)
    count = list(answer.prompt_token_ids).count(IMAGE_TOKEN)
    # LLaVA sees every image as one square.
    assert count == (SIDE // 4) ** 2 if seeing.kind == "llava" else 10 <= count <= 20
