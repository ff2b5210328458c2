import base64

import pytest

from banyan.foundation.errors import ImageError
from banyan.models.vision.data_url import image_bytes


def url_of(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def test_the_bytes_come_back_whatever_the_media_type_claims() -> None:
    assert image_bytes(url_of(b"abc")) == b"abc"
    assert image_bytes("DATA:;base64,YWJj") == b"abc"
    assert image_bytes("data:image/png;charset=x;base64,YW\r\nJj") == b"abc"


@pytest.mark.parametrize(
    "url",
    ["https://example.org/a.png", "http://169.254.169.254/", "file:///etc/passwd", "a.png", ""],
)
def test_an_address_is_never_fetched(url: str) -> None:
    with pytest.raises(ImageError, match="this server fetches nothing"):
        image_bytes(url)


def test_a_long_address_is_shown_in_part() -> None:
    with pytest.raises(ImageError) as caught:
        image_bytes("https://example.org/" + "a" * 10_000)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("data:image/png,abc", "not base64"),
        ("data:image/png;base64", "not base64"),
        ("data:image/png;base64,", "is empty"),
        ("data:image/png;base64,YW*j", "not valid base64"),
        ("data:image/png;base64,YWJ", "not valid base64"),
        ("data:image/png;base64,YW\u00e9j", "not valid base64"),
    ],
)
def test_what_is_no_data_says_so(url: str, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        image_bytes(url)


def test_the_limit_counts_bytes_and_holds_to_the_byte() -> None:
    assert image_bytes(url_of(b"x" * 10), max_bytes=10) == b"x" * 10
    for size in (11, 100):
        with pytest.raises(ImageError, match="at most 10 are allowed"):
            image_bytes(url_of(b"x" * size), max_bytes=10)
