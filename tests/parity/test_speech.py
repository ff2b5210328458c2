"""Whisper against transformers: features, and the tokens of short sounds, many in one batch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from banyan.engine.options import EngineOptions
from banyan.engine.speech.loading import LoadedSpeech, load_speech
from banyan.engine.speech.transcript import Transcript, TranscriptionOptions
from banyan.foundation.settings import Settings
from banyan.models.speech.log_mel import log_mel
from tests.models.speech_checkpoints import make_speech_checkpoint

Floats = NDArray[np.float32]


def sound(number: int, seconds: float = 1.7) -> Floats:
    """Two tones and some noise."""
    generator = np.random.default_rng(number)
    time = np.arange(int(16_000 * seconds)) / 16_000
    tones = np.sin(2 * np.pi * (200 + 90 * number) * time) + np.sin(2 * np.pi * 1700 * time)
    return (0.2 * tones + 0.02 * generator.normal(size=len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_speech_checkpoint(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def loaded(directory: Path, program_cache: Path) -> Iterator[LoadedSpeech]:
    options = EngineOptions(threads=2, max_num_seqs=4)
    settings = Settings(program_cache)
    speech = load_speech(directory, options, settings=settings, progress=lambda *_: None)
    assert not speech.executable.report.externs
    # Sounds are given as samples here, not as files.
    speech.queue._read_sound = lambda data: np.frombuffer(data, np.float32)
    yield speech
    speech.close()


def write_down(
    loaded: LoadedSpeech, sounds: list[Floats], options: TranscriptionOptions
) -> list[Transcript]:
    for number, samples in enumerate(sounds):
        loaded.queue.add_request(str(number), samples.tobytes(), options)
    found: dict[str, Transcript] = {}
    while loaded.queue.has_work():
        found |= dict(loaded.queue.step())
    return [found[str(number)] for number in range(len(sounds))]


@pytest.mark.parametrize("num_bins", [80, 128])
@pytest.mark.parametrize("seconds", [0.3, 12.0, 40.0])
def test_features_are_those_of_transformers(num_bins: int, seconds: float) -> None:
    extractor = transformers.WhisperFeatureExtractor(feature_size=num_bins)
    samples = sound(1, seconds)
    expected = extractor(samples, sampling_rate=16_000, return_tensors="np").input_features[0]
    assert np.abs(log_mel(samples, num_bins=num_bins, num_frames=3000) - expected).max() <= 1e-4


@pytest.mark.parametrize(
    ("timestamps", "language"),
    [
        (False, None),
        pytest.param(False, "en", marks=pytest.mark.wide),
        pytest.param(True, "en", marks=pytest.mark.wide),
        pytest.param(True, None, marks=pytest.mark.wide),
    ],
)
def test_greedy_tokens_are_those_of_transformers(
    loaded: LoadedSpeech, directory: Path, timestamps: bool, language: str | None
) -> None:
    sounds = [sound(number, 0.4 + 0.2 * number) for number in range(7)]
    options = TranscriptionOptions(language=language, temperature=0.0, timestamps=timestamps)
    found = write_down(loaded, sounds, options)
    num_compared = 0
    for transcript, samples in zip(found, sounds, strict=True):
        expected = reference(directory, samples, language=language, timestamps=timestamps)
        first_time = loaded.directory.tokens.first_time
        words = [token for token in expected if token < first_time]
        written = [token for segment in transcript.segments for token in segment.token_ids]
        num_compared += min(len(words), len(written))
        assert written[: len(words)] == words[: len(written)], transcript.language
    assert num_compared > 50, "too little was written to compare"


def reference(
    directory: Path, samples: Floats, *, language: str | None, timestamps: bool
) -> list[int]:
    """The tokens that transformers writes, those before and behind the text left out."""
    model: Any = transformers.WhisperForConditionalGeneration.from_pretrained(directory)
    if not timestamps:  # nothing but training keeps transformers from writing times there
        first = model.generation_config.no_timestamps_token_id
        model.generation_config.suppress_tokens += list(range(first, model.config.vocab_size))
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(directory)
    features = extractor(samples, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        ids = model.generate(
            features,
            language=language,
            task="transcribe",
            return_timestamps=timestamps,
            do_sample=False,
            num_beams=1,
        )[0].tolist()
    tokens = model.generation_config
    special = {*tokens.lang_to_id.values(), *tokens.task_to_id.values()}
    special |= {tokens.eos_token_id, tokens.no_timestamps_token_id, tokens.decoder_start_token_id}
    return [token for token in ids if token not in special]
