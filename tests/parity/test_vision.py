"""Models that see against transformers: from the files of images and a prompt to every logit.

Everything is float32 on both sides. A logit is a sum of 64 products behind four or five layers
whose sums have at most 128 terms, so the two differ by some tens of units in the last place of the
largest value: 2e-5 of it is far above that, and far below what a wrong row, position or window
does, which is a tenth and more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from banyan.compiler.executable import Executable
from banyan.devices.device import Device
from banyan.devices.discovery import find_device
from banyan.engine.starting.compiling import compile_and_pack
from banyan.engine.vision.runner import VisionRunner, load_vision
from banyan.foundation.settings import Settings
from banyan.models.loading import open_model
from banyan.models.quantized_model import QuantizedModel
from banyan.models.step_graph import decoder_step_graph
from banyan.models.vision.loading import VisionModel, open_vision
from banyan.models.vision.placeholders import expand_placeholders
from tests.models.vision.pictures import file_of
from tests.models.vision_checkpoints import IMAGE_TOKEN, make_vision_checkpoint

TOLERANCE = 2e-5
NUM_BLOCKS = 20

Logits = NDArray[np.float32]


def photo(number: int, width: int, height: int) -> Image.Image:
    generator = np.random.default_rng(number)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8), "RGB")


FIRST = [photo(1, 64, 40), photo(2, 23, 57)]
SECOND = photo(3, 31, 30)


@dataclass(slots=True)
class Conversation:
    """One sequence in the paged cache of a compiled step; its blocks lie in falling order."""

    step: Executable
    eyes: VisionRunner
    vision: VisionModel
    tokens: list[int] = field(default_factory=list)
    grids: list[tuple[int, int, int]] = field(default_factory=list)
    rows: list[Logits] = field(default_factory=list)
    logits: list[Logits] = field(default_factory=list)

    def read(
        self, written: Sequence[int], images: Sequence[Image.Image] = (), *, chunk: int = 1000
    ) -> None:
        """Read tokens, each image one placeholder, in steps of at most `chunk` tokens."""
        prepared = [self.eyes.prepare(file_of(image)) for image in images]
        counts = [image.num_tokens for image in prepared]
        tokens, _ = expand_placeholders(written, counts, image_token_id=IMAGE_TOKEN)
        done = len(self.tokens)
        self.tokens += tokens
        self.grids += [image.grid for image in prepared]
        self.rows += [self.eyes.encode(image) for image in prepared]
        stops = [*range(done, len(self.tokens), chunk), len(self.tokens)]
        for start, stop in pairwise(stops):
            self.logits.append(self._run(start, stop))

    def answer(self, num_tokens: int) -> list[int]:
        """Read what is written greedily, and give it."""
        for _ in range(num_tokens):
            self.read([int(self.logits[-1][-1].argmax())])
        return self.tokens[-num_tokens:]

    def _run(self, start: int, stop: int) -> Logits:
        positions, _ = self.vision.positions_of(self.tokens, self.grids)
        is_image = np.array(self.tokens) == IMAGE_TOKEN
        index = np.where(is_image, np.cumsum(is_image) - 1, -1)
        rows = np.concatenate([*self.rows, np.zeros((1, 64), np.float32)])
        places = np.arange(start, stop)
        table = np.arange(NUM_BLOCKS - 1, -1, -1)
        arguments = {
            "token_ids": np.array(self.tokens[start:stop]),
            "positions": np.ascontiguousarray(positions[..., start:stop], dtype=np.int64),
            "slots": table[places // 16] * 16 + places % 16,
            "block_tables": table[None, : -(-stop // 16)].astype(np.int32),
            "query_starts": np.array([0, stop - start], np.int32),
            "context_lengths": np.array([stop], np.int32),
            "logit_rows": np.arange(stop - start),
            "image_rows": rows,
            "image_index": index[start:stop].astype(np.int32),
        }
        return np.array(self.step.run(arguments)["logits"])


@dataclass(frozen=True, slots=True)
class Opened:
    """A checkpoint, compiled here and opened by transformers."""

    directory: Path
    step: Executable
    eyes: VisionRunner
    vision: VisionModel
    reference: Any

    def conversation(self) -> Conversation:
        return Conversation(self.step, self.eyes, self.vision)

    def expected(self, tokens: Sequence[int], images: Sequence[Image.Image]) -> Logits:
        """The logits of transformers after every token."""
        ids = torch.tensor([tokens])
        if self.vision.has_grid_positions:
            qwen = Qwen2VLImageProcessorPil.from_pretrained(self.directory)
            given = dict(qwen(images=list(images), return_tensors="pt")) if images else {}
            given["mm_token_type_ids"] = (ids == IMAGE_TOKEN).int()
        else:
            clip = CLIPImageProcessorPil.from_pretrained(self.directory)
            given = dict(clip(images=list(images), return_tensors="pt")) if images else {}
        with torch.no_grad():
            logits: Logits = self.reference(input_ids=ids, **given).logits[0].numpy()
        return logits


@pytest.fixture(scope="module")
def device(program_cache: Path) -> Iterator[Device]:
    device = find_device("cpu", settings=Settings(program_cache), num_threads=2)
    yield device
    device.close()


# The tower with windows is run by the interpreter in tests/models/vision/test_towers.py.
@pytest.fixture(
    scope="module",
    params=["qwen2_vl", "llava", pytest.param("qwen2_5_vl", marks=pytest.mark.wide)],
)
def opened(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    program_cache: Path,
    device: Device,
) -> Opened:
    directory = make_vision_checkpoint(request.param, tmp_path_factory.mktemp(request.param))
    settings = Settings(program_cache)

    def load(model: QuantizedModel) -> Executable:
        return compile_and_pack(model, device, settings=settings, say=lambda *_: None)

    model = open_model(str(directory))
    graph = decoder_step_graph(
        model.decoder_configuration(), dtype="float32", cache_directory=program_cache
    )
    step = load(QuantizedModel(graph, model.open_weights()))
    step.allocate_state({"num_blocks": NUM_BLOCKS})
    vision = open_vision(directory)
    assert vision is not None
    eyes = load_vision(vision, dtype="float32", cache_directory=program_cache, load=load)
    reference = getattr(transformers, model.configuration.architecture)
    return Opened(directory, step, eyes, vision, reference.from_pretrained(directory).eval())


def difference(found: Logits, expected: Logits) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_images_of_different_sizes_in_one_prompt_give_the_logits_of_transformers(
    opened: Opened,
) -> None:
    talk = opened.conversation()
    talk.read([5, 6, IMAGE_TOKEN, 7, IMAGE_TOKEN, 8, 9, 10], FIRST)
    expected = opened.expected(talk.tokens, FIRST)
    assert difference(talk.logits[0], expected) <= TOLERANCE


def test_greedy_tokens_and_an_image_in_the_second_turn_are_those_of_transformers(
    opened: Opened,
) -> None:
    talk = opened.conversation()
    # Steps of 13 tokens cut through images and blocks of the cache.
    talk.read([5, 6, IMAGE_TOKEN, 7, IMAGE_TOKEN, 8], FIRST, chunk=13)
    first = talk.answer(6)
    first_at = len(talk.tokens) - 6
    talk.read([40, IMAGE_TOKEN, 41, 42], [SECOND], chunk=13)
    second = talk.answer(6)
    expected = opened.expected(talk.tokens, [*FIRST, SECOND])
    assert difference(np.concatenate(talk.logits), expected) <= TOLERANCE
    greedy = expected.argmax(axis=1).tolist()
    assert first == greedy[first_at - 1 : first_at + 5]
    assert second == greedy[-7:-1]


def test_a_prompt_without_an_image_gives_the_logits_of_transformers(opened: Opened) -> None:
    talk = opened.conversation()
    talk.read([5, 6, 7, 8, 9], chunk=3)
    expected = opened.expected(talk.tokens, [])
    assert difference(np.concatenate(talk.logits), expected) <= TOLERANCE


def test_another_image_gives_other_logits(opened: Opened) -> None:
    """The comparison can fail: what is seen moves the logits far beyond the tolerance."""
    talk, other = opened.conversation(), opened.conversation()
    talk.read([5, IMAGE_TOKEN, 6], [photo(4, 40, 40)])
    other.read([5, IMAGE_TOKEN, 6], [photo(5, 40, 40)])
    assert difference(talk.logits[0][-1:], other.logits[0][-1:]) > 1000 * TOLERANCE


def test_all_of_a_tower_runs_in_our_kernels(opened: Opened) -> None:
    assert not opened.eyes.report.externs
    assert not opened.step.report.externs
