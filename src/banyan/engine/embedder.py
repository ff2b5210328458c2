"""`Embedder`: texts to vectors, in this process. The door for Python users."""

import os
from collections.abc import Sequence
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from banyan.engine.batch_generation import Progress
from banyan.engine.options import EngineOptions
from banyan.engine.pooling.loading import LoadedPooler, load_pooler
from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.foundation.errors import InputError
from banyan.foundation.settings import load_settings


class Embedder:
    """A model that makes a vector of a text: an encoder, or a decoder with its pooling.

    Args:
        model: a directory or a hub id.
        device: a device name as `banyan devices` lists it.
        dtype: "float32", "bfloat16" or "auto" (the checkpoint's own).
        threads: CPU threads; None takes one per physical core.
        quantization: round ordinary weights while loading: "int8", "int4" or "fp8".
        activation: inputs of quantised layers: "plain", or "int8" to round them too.
        progress: called while the model loads with a stage, how much is done, how much there is.

    Raises:
        ModelError: the model cannot be used; one sentence says why.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        device: str = "cpu",
        dtype: str = "auto",
        threads: int | None = None,
        quantization: str | None = None,
        activation: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        options = EngineOptions(
            device=device,
            dtype=dtype,
            threads=threads,
            quantization=quantization,
            activation=activation,
        )
        self._loaded: LoadedPooler | None = load_pooler(
            os.fspath(model), options, settings=load_settings(os.environ), progress=progress
        )

    def embed(self, texts: str | Sequence[str]) -> NDArray[np.float32]:
        """Return one vector per text: float32 [number of texts, hidden], in order.

        A text that is too long is cut to the model's limit, as sentence-transformers does.
        """
        if self._loaded is None:
            raise InputError("this Embedder is closed; make a new one")
        tokenizer, runner = self._loaded.directory.tokenizer, self._loaded.runner
        many = [texts] if isinstance(texts, str) else texts
        return runner.run(
            [
                PoolingPrompt(tuple(tokenizer.encode_cut(text, max_tokens=runner.max_tokens)))
                for text in many
            ]
        )

    def close(self) -> None:
        """Stop the threads and give the memory back; closing twice is no error."""
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None

    def __enter__(self) -> "Embedder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
