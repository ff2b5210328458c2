import io

from rich.console import Console

from banyan.cli.compile_report import print_report


def printed(report: dict[str, object]) -> str:
    written = io.StringIO()
    reply = {"model": "m", "kind": "decoder", "max_model_len": 64, "report": report}
    print_report(Console(file=written, width=100), reply)
    return written.getvalue()


def test_rows_stand_below_each_other() -> None:
    rows = [["target", "cpp [avx2]"], ["coverage", "100.0 %"]]
    text = printed({"summary": rows, "device": "cpu", "load_seconds": 1.25})
    assert "  target    cpp [avx2]\n  coverage  100.0 %\n" in text
    assert "Device cpu, loaded in 1.2 s" in text


def test_a_scripted_model_says_that_nothing_was_compiled() -> None:
    assert "nothing was compiled" in printed({})
