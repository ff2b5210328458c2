"""What is kept of a program can be read back."""

from pathlib import Path

from banyan.compiler.cache import forget_manifest, keep_manifest, program_key, read_manifest
from banyan.compiler.compiled import Manifest, StoredInput, StoredOutput
from banyan.compiler.executable import Argument
from banyan.compiler.ir.symbols import ceil_divide, symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.report import CompileReport, ExternUse
from banyan.compiler.targets.memory import Location, Memory, Slot

T, B = symbol("T", 1, 4096), symbol("B", 2, 8)


def manifest(image: Path) -> Manifest:
    rows = TensorType((T, ceil_divide(T * 2, 3) + 5, B * B), DType.BFLOAT16)
    argument = Argument("x", rows, "argument")
    use = ExternUse("aten.sort.default", 2, "no rule")
    report = CompileReport("g", "cpp", "avx2", 9, 2, 3, (use,), 10, 20, 30, 0.5, False)
    return Manifest(
        inputs=(StoredInput(argument, rows, None), StoredInput(argument, rows, "panels")),
        outputs=(StoredOutput(Argument("y", rows, "output"), Location(Memory.OUTPUT, 0)),),
        memories=(rows,),
        symbols=("T", "B"),
        slots=(Slot(T * 64, 0, 3),),
        entries=("banyan_run_0",),
        scratch_bytes=640,
        image=image,
        report=report,
    )


def test_a_kept_program_reads_back_equal(tmp_path: Path) -> None:
    image = tmp_path / "program.so"
    image.write_bytes(b"")
    keep_manifest(tmp_path, "key", manifest(image))
    assert read_manifest(tmp_path, "key") == manifest(image)


def test_a_program_whose_shared_object_is_gone_counts_as_absent(tmp_path: Path) -> None:
    keep_manifest(tmp_path, "key", manifest(tmp_path / "gone.so"))
    assert read_manifest(tmp_path, "key") is None


def test_a_forgotten_program_is_absent(tmp_path: Path) -> None:
    image = tmp_path / "program.so"
    image.write_bytes(b"")
    keep_manifest(tmp_path, "key", manifest(image))
    forget_manifest(tmp_path, "key", image)
    assert read_manifest(tmp_path, "key") is None
    assert not image.exists()


def test_the_key_changes_with_the_graph_and_with_the_settings() -> None:
    keys = {program_key("a", "avx2"), program_key("b", "avx2"), program_key("a", "avx512")}
    assert len(keys) == 3
    assert program_key("a", "avx2") in keys
