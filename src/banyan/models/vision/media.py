"""An image that comes with a prompt: plain data that crosses from process to process."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Media:
    """One image and where it stands in the prompt.

    Attributes:
        content: the bytes of its file.
        start: place of its first placeholder among the tokens of the prompt.
        num_tokens: how many placeholders it has.
        place: the field it came in, for errors, such as `messages[0].content[1]`.
    """

    content: bytes
    start: int
    num_tokens: int
    place: str = "messages"
