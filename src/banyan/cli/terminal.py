"""What all commands print with: one console for results, one for everything beside them."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn


def output() -> Console:
    """Return a console on standard output; long lines are not cut when it is a file."""
    return Console(soft_wrap=True, highlight=False)


def side() -> Console:
    """Return a console on standard error, for progress, warnings and errors."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


class LoadingView:
    """Shows the stages of a long start: a bar on a terminal, one line per stage elsewhere."""

    def __init__(self, console: Console, progress: Progress | None) -> None:
        self._console = console
        self._progress = progress
        self._task = None if progress is None else progress.add_task("Starting", total=None)
        self._stage = ""

    def show(self, stage: str, num_done: int = 0, num_total: int = 0) -> None:
        """Show a stage and how much of it is done; a total of 0 or 1 is not counted."""
        if self._progress is not None and self._task is not None:
            total = num_total if num_total > 1 else None
            self._progress.update(self._task, description=stage, completed=num_done, total=total)
        elif stage != self._stage:
            self._console.print(f"{stage} ...")
        self._stage = stage


@contextmanager
def loading_view(console: Console) -> Iterator[LoadingView]:
    """Show the stages of a long start while the block runs."""
    if not console.is_terminal:
        yield LoadingView(console, None)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield LoadingView(console, progress)
