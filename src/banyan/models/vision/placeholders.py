"""Where images stand in a prompt: one placeholder each becomes as many as the image has rows.

Pure. Chat templates write one placeholder token for an image; the model reads one for each row
that its tower makes of it.
"""

from collections.abc import Sequence

from banyan.foundation.errors import RequestError


def expand_placeholders(
    token_ids: Sequence[int], counts: Sequence[int], *, image_token_id: int
) -> tuple[list[int], list[int]]:
    """Repeat the k-th placeholder `counts[k]` times.

    Returns:
        The tokens, and the place of each image's first placeholder among them.

    Raises:
        RequestError: there are not as many placeholders as images.
    """
    num_found = sum(token_id == image_token_id for token_id in token_ids)
    if num_found != len(counts):
        raise RequestError(
            f"the conversation as the model's template writes it has {num_found} places for "
            f"images, but {len(counts)} images came with it; the text must not hold the image "
            "token of the model",
            parameter="messages",
        )
    expanded: list[int] = []
    starts: list[int] = []
    for token_id in token_ids:
        if token_id != image_token_id:
            expanded.append(token_id)
            continue
        count = counts[len(starts)]
        starts.append(len(expanded))
        expanded.extend([image_token_id] * count)
    return expanded, starts
