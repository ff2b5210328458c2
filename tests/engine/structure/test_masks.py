import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banyan.engine.fake import FakeTokenizer
from banyan.engine.sampling import SamplingOptions
from banyan.engine.structure.bits import set_bits
from banyan.engine.structure.definition import Structure
from banyan.engine.structure.guidance import StructureCompiler
from banyan.engine.structure.masks import NO_MASKS, MaskMaker, TokenMask
from banyan.engine.tokens.sampler import SequenceSampler, sample_row

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
        mask = masks.of(row)
        assert mask is not None
        return bytes(np.flatnonzero(~mask.forbidden()).tolist())

    assert [masks.of(row) for row in range(3)] == [None, None, None]
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


@settings(max_examples=60, deadline=None)
@given(allowed=st.sets(st.integers(0, 999), max_size=60), seed=st.integers(0, 99))
def test_listed_or_not_the_same_tokens_are_allowed(allowed: set[int], seed: int) -> None:
    words = np.zeros(32, dtype=np.int32)
    set_bits(words, np.array(sorted(allowed), dtype=np.int64))
    mask = TokenMask(words, 1000)

    assert set(np.flatnonzero(~mask.forbidden()).tolist()) == allowed
    assert [token for token in range(1000) if mask.allows(token)] == sorted(allowed)
    listed = mask.few_allowed()
    if len({token // 32 for token in allowed}) <= 4:
        assert listed is not None
        assert listed.tolist() == sorted(allowed)
    else:
        assert listed is None


@settings(max_examples=60, deadline=None)
@given(
    allowed=st.sets(st.integers(0, 999), min_size=1, max_size=40),
    temperature=st.sampled_from([0.0, 1.0]),
    bias=st.sampled_from([None, {3: 1.0}]),
    seed=st.integers(0, 99),
)
def test_a_token_that_is_chosen_is_allowed_and_the_likeliest_when_greedy(
    allowed: set[int], temperature: float, bias: dict[int, float] | None, seed: int
) -> None:
    words = np.zeros(32, dtype=np.int32)
    set_bits(words, np.array(sorted(allowed), dtype=np.int64))
    row = np.random.default_rng(seed).standard_normal(1000, dtype=np.float32)
    options = SamplingOptions(temperature=temperature, logit_bias=bias)
    sampler = SequenceSampler(options, (), end_token_ids=(), entropy=(seed,))

    chosen = sample_row(row.copy(), sampler, TokenMask(words, 1000)).token_id

    assert chosen in allowed
    if temperature == 0.0 and bias is None:
        assert chosen == max(allowed, key=lambda token: row[token])


def test_a_mask_that_allows_nothing_gives_no_token() -> None:
    sampler = SequenceSampler(SamplingOptions(), (), end_token_ids=(), entropy=(1,))
    mask = TokenMask(np.zeros(32, dtype=np.int32), 1000)
    assert sample_row(np.ones(1000, dtype=np.float32), sampler, mask).token_id is None
