"""`banyan quantize`, without its words: calibrate, write, read back, compare."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from banyan.devices.device import Device
from banyan.devices.discovery import find_device
from banyan.engine.batch_generation import Progress
from banyan.engine.starting.compiling import (
    choose_dtype,
    compile_and_pack,
    plain_graph,
    say_nothing,
)
from banyan.engine.workbench.accuracy import (
    LayerRows,
    TextAccuracy,
    VectorAccuracy,
    chunks_of,
    compare_texts,
    compare_vectors,
    prepare,
    run_chunk,
)
from banyan.foundation.errors import InputError
from banyan.foundation.settings import Settings
from banyan.models.configuration import EncoderConfiguration
from banyan.models.loading import ModelDirectory, open_model
from banyan.models.quantisation.graph import expert_layers, observed_graph
from banyan.models.quantisation.rounded import RoundingChoice
from banyan.models.quantisation.writing import QuantizedDirectory
from banyan.models.quantized_model import QuantizedModel, quantized_model

MOST_TOKENS = 2048
"""Tokens that calibrate, and tokens that are compared."""


@dataclass(frozen=True, slots=True)
class QuantizingReport:
    """Attributes:
    num_layers: quantised.
    experts: stacks of experts, which stay floats.
    bytes_before: of the weight files.
    bytes_after: of the weight files written.
    errors: relative error of each layer's result on real rows; empty without a text.
    accuracy: of the whole model; None without a text.
    """

    num_layers: int
    experts: tuple[str, ...]
    bytes_before: int
    bytes_after: int
    errors: tuple[tuple[str, float], ...]
    accuracy: TextAccuracy | VectorAccuracy | None


def quantize_directory(
    model: str,
    target: Path,
    choice: RoundingChoice,
    *,
    text: str | None,
    settings: Settings,
    progress: Progress,
) -> QuantizingReport:
    """Write a quantised copy of a model.

    The first half of `text` calibrates: layers are rounded for the rows that reach them. On the
    second half both models are compared. None does neither.

    Raises:
        ModelError: the model cannot be used, or is quantised already.
        InputError: the target is there already, or the choice does not suit the model.
    """
    progress("Opening the model", 0, 1)
    directory = open_model(model, offline=settings.offline)
    if directory.quantisation is not None:
        raise InputError(
            f"{model} is quantised already, with {directory.quantisation.method}; give the model "
            "with ordinary weights"
        )
    return _Job(directory, target, choice, settings, progress).run(text)


def compare_rounding(
    model: str, choice: RoundingChoice, text: str, settings: Settings
) -> TextAccuracy:
    """Compare a decoder rounded while it is loaded with itself, on the second half of `text`.

    Raises:
        ModelError: the model cannot be used.
        InputError: the choice does not suit the model.
    """
    directory = open_model(model, offline=settings.offline)
    dtype = choose_dtype("auto", directory.decoder_configuration().checkpoint_dtype)
    graph = plain_graph(directory, dtype, settings)
    chunks = chunks_of(directory, text, most=2 * MOST_TOKENS)
    with closing(find_device("cpu", settings=settings)) as device:
        executables = []
        for rounding in (None, choice):
            weights = directory.open_weights()
            found = quantized_model(directory, weights, graph, dtype=dtype, rounding=rounding)
            executable = compile_and_pack(found, device, settings=settings, say=say_nothing)
            prepare(executable, directory)
            executables.append(executable)
        plain, rounded = executables
        return compare_texts(plain, rounded, directory, chunks[len(chunks) // 2 :])


@dataclass(frozen=True, slots=True)
class _Job:
    directory: ModelDirectory
    target: Path
    choice: RoundingChoice
    settings: Settings
    progress: Progress

    @property
    def dtype(self) -> str:
        return choose_dtype("auto", self.directory.configuration.checkpoint_dtype)

    def run(self, text: str | None) -> QuantizingReport:
        if text is None:
            return self._write(None, None)
        chunks = chunks_of(self.directory, text, most=2 * MOST_TOKENS)
        if len(chunks) < 2:
            raise InputError(
                "the text is too short to calibrate and compare with; give a longer one"
            )
        middle = len(chunks) // 2
        device = find_device("cpu", settings=self.settings)
        try:
            return self._write(device, (chunks[:middle], chunks[middle:]))
        finally:
            device.close()

    def _write(
        self, device: Device | None, halves: tuple[Sequence[list[int]], Sequence[list[int]]] | None
    ) -> QuantizingReport:
        weights = self.directory.open_weights()
        graph = plain_graph(self.directory, self.dtype, self.settings)
        schemes = self.choice.schemes(graph)
        errors: list[tuple[str, float]] = []
        writer = QuantizedDirectory(self.directory.path, weights, schemes)
        if device is not None and halves is not None:
            rows = self._observe(device, list(schemes), halves[0])
            writer.rows = rows.calibration
            writer.seen = lambda layer, *rest: errors.append((layer, rows.of_layer(layer, *rest)))
        writer.write(self.target, lambda done, total: self.progress("Writing weights", done, total))
        accuracy = None
        if device is not None and halves is not None:
            accuracy = self._compare(device, halves[1])
        return QuantizingReport(
            num_layers=len(schemes),
            experts=tuple(expert_layers(graph)),
            bytes_before=_weight_bytes(self.directory.path),
            bytes_after=_weight_bytes(self.target),
            errors=tuple(errors),
            accuracy=accuracy,
        )

    def _observe(self, device: Device, layers: list[str], chunks: Sequence[list[int]]) -> LayerRows:
        graph = plain_graph(self.directory, self.dtype, self.settings)
        observed, outputs = observed_graph(graph, layers)
        model = QuantizedModel(observed, self.directory.open_weights())
        executable = compile_and_pack(model, device, settings=self.settings, say=self.progress)
        prepare(executable, self.directory)
        rows = LayerRows(outputs)
        for number, tokens in enumerate(chunks):
            rows.add(run_chunk(executable, self.directory, tokens))
            self.progress("Calibrating", number + 1, len(chunks))
        return rows

    def _compare(
        self, device: Device, chunks: Sequence[list[int]]
    ) -> TextAccuracy | VectorAccuracy:
        executables = []
        for directory in (self.directory, open_model(str(self.target), offline=True)):
            graph = plain_graph(directory, self.dtype, self.settings)
            model = quantized_model(directory, directory.open_weights(), graph, dtype=self.dtype)
            executable = compile_and_pack(model, device, settings=self.settings, say=self.progress)
            prepare(executable, directory)
            executables.append(executable)
        self.progress("Comparing", 0, 1)
        plain, quantized = executables
        if isinstance(self.directory.configuration, EncoderConfiguration):
            return compare_vectors(plain, quantized, self.directory, chunks)
        return compare_texts(plain, quantized, self.directory, chunks)


def _weight_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))
