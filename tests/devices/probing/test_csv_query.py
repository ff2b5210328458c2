import pytest

from banyan.devices.probing.csv_query import CsvQuery
from banyan.devices.probing.record import ChipRecord
from tests.devices.chips.machines import Tools

QUERY = CsvQuery("smi", {"index": "index", "model": "name", "memory": "memory.total"})


def test_columns_are_asked_for_by_name_and_read_in_order() -> None:
    tools = Tools({"smi": "0, A, 1 MiB\n\n1, B, [N/A]\n"})
    assert QUERY.read(tools) == (
        ChipRecord(index=0, model="A", memory_bytes=1024 * 1024),
        ChipRecord(index=1, model="B"),
    )
    assert tools.asked == ["smi --query-gpu=index,name,memory.total --format=csv,noheader,nounits"]


def test_a_header_that_was_not_asked_for_is_skipped() -> None:
    assert QUERY.read(Tools({"smi": "index, name, memory.total [MiB]\n"})) == ()


@pytest.mark.parametrize("line", ["0, A", "0, A, 1, 2", "x, A, 1", "0, A, many"])
def test_a_line_that_is_not_what_was_asked_for_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"fields where 3|is not"):
        QUERY.read(Tools({"smi": line}))
