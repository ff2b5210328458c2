from html.parser import HTMLParser

from banyan.compiler.tuner.page import program_page
from banyan.compiler.tuner.roofline import Floor
from banyan.compiler.tuner.timeline import KernelTime, Timeline
from banyan.compiler.tuner.work import Work

WORK = Work((("bf16", 4e6),), 0.0, (1e6,))


def kernel(name: str, begin: float, seconds: float) -> KernelTime:
    return KernelTime(name, begin, seconds, WORK, Floor(5e-4, 1e-4, 0.0))


TIMELINE = Timeline("decode", (kernel("linear<0>", 0.0, 1e-3), kernel("norm", 1e-3, 2e-3)), 3e-3)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rectangles: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "rect":
            self.rectangles.append(dict(attrs))
        if tag not in {"meta"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_shows_every_launch_to_scale() -> None:
    tags = Tags()
    tags.feed(program_page("model <x>", [("graph", "a & b")], [TIMELINE], ["graph.txt"]))
    assert tags.open == []
    first, second = tags.rectangles
    assert (first["x"], first["width"]) == ("0.00", "400.00")
    assert (second["x"], second["width"]) == ("400.00", "800.00")


def test_the_slowest_kernel_comes_first_with_its_share_of_the_roofline() -> None:
    page = program_page("model", [], [TIMELINE])
    assert page.index("</span> norm</td>") < page.index("</span> linear&lt;0&gt;</td>")
    assert "25%" in page  # 0.5 of 2 ms
    assert "the roofline of this device allows 1.00 ms, 33% of it is reached" in page


def test_names_are_escaped_and_an_empty_run_is_no_error() -> None:
    page = program_page("model <x>", [("graph", "a & b")], [Timeline("nothing", (), 0.0)])
    assert "model &lt;x&gt;" in page
    assert "a &amp; b" in page
    assert "<x>" not in page
