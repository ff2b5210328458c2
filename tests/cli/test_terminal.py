import io

from rich.console import Console

from banyan.cli.terminal import loading_view


def shown(*, is_terminal: bool) -> str:
    written = io.StringIO()
    console = Console(file=written, force_terminal=is_terminal, width=100)
    with loading_view(console) as view:
        view.show("Compiling", 0, 1)
        view.show("Packing weights", 3, 9)
        view.show("Packing weights", 9, 9)
    return written.getvalue()


def test_a_file_gets_one_line_per_stage() -> None:
    assert shown(is_terminal=False) == "Compiling ...\nPacking weights ...\n"


def test_a_terminal_gets_a_bar_with_numbers() -> None:
    assert "9/9" in shown(is_terminal=True)
