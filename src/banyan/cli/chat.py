"""`banyan chat`: a conversation in the terminal, with a server near or far."""

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from banyan.cli.server_process import started_server
from banyan.cli.shipped import find_model
from banyan.cli.terminal import loading_view, output, side
from banyan.client import Client, Message
from banyan.foundation.errors import RequestError

_WELCOME = "Talk with [bold]{name}[/bold]. /clear forgets the conversation, /quit ends."


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """What a person asks of `banyan chat`; without `url` a server is started for `model`."""

    model: str | None = None
    url: str | None = None
    system: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None

    def request_fields(self) -> dict[str, Any]:
        """Return the API fields that were chosen."""
        chosen = {"max_tokens": self.max_tokens, "temperature": self.temperature}
        return {name: value for name, value in chosen.items() if value is not None}


def run_chat(options: ChatOptions) -> None:
    """Talk until /quit or the end of the input."""
    with ExitStack() as stack:
        url = options.url
        if url is None:
            with loading_view(side()) as view:
                url = stack.enter_context(
                    started_server([find_model(options.model)], on_loading=view.show)
                )
        client = Client(url)
        name = client.models()[0].name
        console = output()
        console.print(_WELCOME.format(name=name))
        _converse(client, name, options, console)


def _converse(client: Client, name: str, options: ChatOptions, console: Console) -> None:
    opening = [Message("system", options.system)] if options.system else []
    messages = list(opening)
    while True:
        try:
            text = console.input("[bold green]>[/bold green] ").strip()
        except EOFError:
            return
        if text == "/quit":
            return
        if text == "/clear":
            messages = list(opening)
        elif text:
            messages.append(Message("user", text))
            messages = _answer(client, name, messages, options, console)


def _answer(
    client: Client, name: str, messages: list[Message], options: ChatOptions, console: Console
) -> list[Message]:
    """Print the answer as it comes; return the conversation with it.

    A refused turn is taken back, so that the next one is not refused for the same reason. Ctrl-C
    stops the answer and keeps what was said.
    """
    said = ""
    try:
        with closing(
            client.stream_chat(messages, model=name, options=options.request_fields())
        ) as pieces:
            for piece in pieces:
                said += piece.text
                console.print(piece.text, end="", markup=False)
    except RequestError as error:
        console.print(str(error), style="red", markup=False)
        return messages[:-1]
    except KeyboardInterrupt:
        console.print(" [dim](stopped)[/dim]", end="")
    console.print()
    return [*messages, Message("assistant", said)]
