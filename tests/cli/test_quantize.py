import io
from pathlib import Path

import pytest
from rich.console import Console

from banyan.cli.main import main
from banyan.cli.quantize import print_quantized, read_text
from banyan.engine.workbench.accuracy import TextAccuracy, VectorAccuracy
from banyan.engine.workbench.quantizing import QuantizingReport
from banyan.foundation.errors import InputError
from banyan.models.loading import open_model
from banyan.models.quantisation.rounded import RoundingChoice
from tests.conftest import Checkpoint


def printed(accuracy: TextAccuracy | VectorAccuracy | None) -> str:
    errors = (("a.q_proj", 0.01), ("a.k_proj", 0.03), ("a.v_proj", 0.02))
    report = QuantizingReport(
        num_layers=3,
        experts=("b.experts.up_proj",),
        bytes_before=4_000_000,
        bytes_after=1_000_000,
        errors=errors if accuracy else (),
        accuracy=accuracy,
    )
    written = io.StringIO()
    print_quantized(Console(file=written, width=100), Path("out"), RoundingChoice("int4"), report)
    return written.getvalue()


def test_a_decoder_is_told_with_sizes_errors_and_perplexity() -> None:
    text = printed(TextAccuracy(2048, 0.00125, 0.985, 10.0, 10.1))
    assert "3 in int4" in text
    assert "4.0 MB before, 1.0 MB now (25%)" in text
    assert "1 stacks stay as they were" in text
    assert "median 2.00%, largest 3.00%" in text
    assert text.index("3.00%  a.k_proj") < text.index("2.00%  a.v_proj")
    assert "0.00125 nats per token" in text
    assert "98.50% of tokens" in text
    assert "10.000 before, 10.100 now (+1.00%)" in text


def test_an_encoder_is_told_by_cosines_and_nothing_measured_is_nothing_told() -> None:
    assert "mean 0.99900, least 0.99500" in printed(VectorAccuracy(7, 0.999, 0.995))
    assert "layer error" not in printed(None)


def test_a_text_is_a_file_or_what_banyan_says_of_itself(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("one")
    assert read_text(tmp_path / "text") == "one"
    assert "Banyan" in read_text(None)
    with pytest.raises(InputError, match="missing cannot be read"):
        read_text(tmp_path / "missing")


def test_the_command_writes_a_directory(
    checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = str(checkpoint("llama")), tmp_path / "out"
    options = ["--format", "int4", "--group", "32", "--asymmetric", "--keep", "v_proj"]
    with pytest.raises(SystemExit) as ended:
        main(["quantize", source, str(target), *options, "--no-measure"])
    assert ended.value.code == 0
    assert "12 in int4" in capsys.readouterr().out
    assert open_model(str(target)).quantisation is not None
