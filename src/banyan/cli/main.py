"""The `banyan` command: what it is called, what it takes, where it goes.

Owns the command line's words and the last error handler. Each command's work is in a module of
its own, imported when the command runs, so that `banyan --help` is quick.
"""
# ruff: noqa: PLC0415  (a command imports its work when it runs)

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from banyan.cli.bench import bench
from banyan.cli.dataclass_command import takes
from banyan.cli.drain import drain
from banyan.cli.option_types import (
    ActivationOption,
    DeviceOption,
    DtypeOption,
    Model,
    ThreadsOption,
)
from banyan.cli.plan_arguments import PlanArguments
from banyan.cli.serve_arguments import ServeArguments
from banyan.cli.simulate_arguments import SimulateArguments
from banyan.cli.swap import swap
from banyan.foundation.errors import BanyanError
from banyan.foundation.settings import Settings, load_settings

_SERVING, _MACHINE = "Serve and talk", "This machine"
_INTERRUPTED = 130

app = typer.Typer(
    name="banyan",
    help="Serve large language models on any mix of chips, behind an OpenAI-compatible API.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        import banyan

        typer.echo(f"banyan {banyan.__version__}")
        raise typer.Exit


@app.callback()
def banyan_command(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Serve large language models on any mix of chips, behind an OpenAI-compatible API."""


@app.command(rich_help_panel=_SERVING)
@takes(ServeArguments)
def serve(arguments: ServeArguments) -> None:
    """Start the [bold]server[/bold] with a model; it stays up until Ctrl-C."""
    from banyan.cli.serve import run_server

    run_server(arguments.serve_options(), _settings())


@app.command(rich_help_panel=_SERVING)
def worker(
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where engines connect.")
    ],
    secret: Annotated[
        Path,
        typer.Option(
            "--secret", metavar="FILE", help="What both sides know; made if it is not there."
        ),
    ],
    device: DeviceOption = "cpu",
) -> None:
    """Lend a [bold]device[/bold] of this machine to a server on another host (its --plan)."""
    from banyan.cli.worker import open_lending, serve_engines

    lending = open_lending(listen, secret, device)
    typer.echo(f"listening on port {lending.listener.port} for engines that know {secret}")
    try:
        serve_engines(lending, _settings())
    finally:
        lending.listener.close()


@app.command(rich_help_panel=_SERVING)
def chat(
    model: Model = None,
    url: Annotated[
        str | None, typer.Option(help="Talk to this server instead of starting one.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told first.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 always says the likeliest.")] = None,
) -> None:
    """[bold]Talk[/bold] with a model in this terminal; /quit ends."""
    from banyan.cli.chat import ChatOptions, run_chat

    run_chat(
        ChatOptions(
            model=model, url=url, system=system, max_tokens=max_tokens, temperature=temperature
        )
    )


@app.command(rich_help_panel=_SERVING)
def demo(
    model: Model = None,
    threads: ThreadsOption = None,
) -> None:
    """Start a server, ask it [bold]three questions[/bold], show what happened, stop."""
    from banyan.cli.demo import run_demo

    run_demo(model, threads=threads)


@app.command(name="compile", rich_help_panel=_SERVING)
def compile_command(
    model: Model = None,
    report: Annotated[
        bool,
        typer.Option("--report", help="Run the model too; list operations and kernels with times."),
    ] = False,
    dump: Annotated[
        Path | None,
        typer.Option(
            "--dump",
            metavar="DIR",
            help="Write the graph after each pass, the program's text and a page about its runs.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
) -> None:
    """[bold]Compile[/bold] a model ahead of its first start and say how much is covered."""
    from banyan.cli.compile import run_compile
    from banyan.cli.shipped import find_model

    run_compile(
        find_model(model),
        device=device,
        dtype=dtype,
        details=report,
        settings=_settings(),
        dump=dump,
    )


@app.command(rich_help_panel=_SERVING)
def tune(
    model: Model = None,
    dtype: DtypeOption = "auto",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Search again what was found before.")
    ] = False,
) -> None:
    """Find the fastest [bold]block sizes[/bold] of a model's layers on this machine."""
    from banyan.cli.shipped import find_model
    from banyan.cli.tune import run_tune

    run_tune(find_model(model), dtype=dtype, fresh=fresh, settings=_settings())


# More arguments than elsewhere: each is one option of the command line.
@app.command(rich_help_panel=_SERVING)
def quantize(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model directory or hub id.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A new directory to write.")],
    layout: Annotated[str, typer.Option("--format", help="int8, int4 or fp8.")] = "int8",
    group: Annotated[
        int | None, typer.Option("--group", min=2, help="Weights that share a scale, for int4.")
    ] = None,
    asymmetric: Annotated[
        bool, typer.Option("--asymmetric", help="Keep a zero for each group, for int4.")
    ] = False,
    activation: ActivationOption = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", help="Layers that stay as they are; again for more."),
    ] = None,
    text: Annotated[
        Path | None, typer.Option("--text", help="A file to calibrate and compare with.")
    ] = None,
    measure: Annotated[bool, typer.Option(help="Calibrate, and compare with the original.")] = True,
) -> None:
    """Write a model with weights of [bold]8 or 4 bits[/bold], and say what that costs."""
    from banyan.cli.quantize import run_quantize
    from banyan.cli.shipped import find_model
    from banyan.models.quantisation.rounded import KEPT, RoundingChoice

    choice = RoundingChoice(
        format=layout,
        group=group,
        asymmetric=asymmetric,
        activation=activation,
        keep=(*KEPT, *(keep or ())),
    )
    run_quantize(
        find_model(model), target, choice, text=text, measure=measure, settings=_settings()
    )


@app.command(rich_help_panel=_SERVING)
@takes(SimulateArguments)
def simulate(arguments: SimulateArguments) -> None:
    """Try a [bold]plan[/bold] on a simulated clock: latency, utilisation, cost, failures."""
    from banyan.cli.simulate import run_simulate

    run_simulate(arguments, _settings())


@app.command(rich_help_panel=_SERVING)
@takes(PlanArguments)
def plan(arguments: PlanArguments) -> None:
    """Plan where a model [bold]lives[/bold] on a mix of devices, what that gives and costs."""
    from banyan.cli.plan import run_plan

    run_plan(arguments, _settings())


app.command(rich_help_panel=_SERVING)(swap)
app.command(rich_help_panel=_SERVING)(drain)
app.add_typer(bench, name="bench", rich_help_panel=_SERVING)


@app.command(rich_help_panel=_MACHINE)
def devices(
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Measure what compiled programs reach, in minutes; keep it."
        ),
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="With --measure: fewer sizes, about a minute.")
    ] = False,
    device: Annotated[
        str, typer.Option("--device", help="With --measure: the device to measure.")
    ] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the [bold]devices[/bold] of this machine and say why others are missing."""
    from banyan.cli.devices import Measuring, run_devices

    wanted = Measuring(device, quick=quick) if measure else None
    run_devices(measure=wanted, as_json=as_json, settings=_settings())


@app.command(rich_help_panel=_MACHINE)
def conformance(
    device: Annotated[
        str, typer.Argument(metavar="DEVICE", help="For example cpu, opencl:0, cuda:0, triton.")
    ],
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="PAGE", help="Write its row of docs/support_matrix.md."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="One area of the kit; again for more.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that a [bold]device[/bold] computes what it must, and which word it has earned."""
    from banyan.cli.conformance import run_conformance

    passed = run_conformance(
        device, areas=only or (), page=write, as_json=as_json, settings=_settings()
    )
    if not passed:
        raise typer.Exit(1)


@app.command(rich_help_panel=_MACHINE)
def doctor(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to try.")] = 8000,
) -> None:
    """Check what is [bold]missing[/bold] on this machine and say how to get it."""
    from banyan.cli.doctor import run_doctor

    if not run_doctor(_settings(), port=port):
        raise typer.Exit(1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error of ours is one sentence and exit code 1."""
    try:
        app(args=arguments)
    except BanyanError as error:
        from rich.markup import escape

        from banyan.cli.terminal import side

        side().print(f"[bold red]error:[/bold red] {escape(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _settings() -> Settings:
    return load_settings(os.environ)


if __name__ == "__main__":
    main()
