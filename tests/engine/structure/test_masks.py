import numpy as np
import pytest

from banyan.engine.fake import FakeTokenizer
from banyan.engine.structure.definition import Structure
from banyan.engine.structure.guidance import StructureCompiler
from banyan.engine.structure.masks import NO_MASKS, MaskMaker

END = FakeTokenizer.end_token_id
VOCABULARY = FakeTokenizer.vocab_size


@pytest.fixture(scope="module")
def compiler() -> StructureCompiler:
    return StructureCompiler(FakeTokenizer().to_json, vocab_size=VOCABULARY, end_token_ids=(END,))


def test_each_guess_has_a_mask_behind_it_and_free_rows_have_none(
    compiler: StructureCompiler,
) -> None:
    constraint = compiler.constraint(Structure.regex("ab+c"), end_token_ids=(END,))
    maker = MaskMaker(VOCABULARY)

    masks = maker.begin([None, constraint], [[1, 2], list(b"abx")])
    masks.wait()
    maker.close()

    def allowed(row: int) -> bytes:
        forbidden_V = masks.forbidden(row)
        assert forbidden_V is not None
        return bytes(np.flatnonzero(~forbidden_V).tolist())

    assert [masks.forbidden(row) for row in range(3)] == [None, None, None]
    assert [allowed(row) for row in (3, 4, 5)] == [b"a", b"b", b"bc"]
    assert constraint.count_valid(b"abbc") == 4, "the guesses were not taken back"


def test_a_step_without_structures_starts_no_thread() -> None:
    maker = MaskMaker(VOCABULARY)
    assert maker.begin([None, None], [[], []]) is NO_MASKS
    maker.close()


def test_what_fails_while_filling_is_raised_by_waiting() -> None:
    class Broken:
        is_finished = False
        failure = None

        def fill(self, mask_W: object) -> None:
            raise ZeroDivisionError

        accept = rollback = count_valid = fill

    maker = MaskMaker(VOCABULARY)
    masks = maker.begin([Broken()], [[]])  # type: ignore[list-item]
    with pytest.raises(ZeroDivisionError):
        masks.wait()
    maker.close()
