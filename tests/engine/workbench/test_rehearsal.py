import pytest

from banyan.engine.options import EngineLimits
from banyan.engine.workbench.rehearsal import decoder_rehearsals, encoder_rehearsals


def limits(max_model_len: int, num_blocks: int, max_num_seqs: int = 64) -> EngineLimits:
    return EngineLimits(
        max_model_len=max_model_len,
        max_num_seqs=max_num_seqs,
        token_budget=1024,
        num_blocks=num_blocks,
    )


def test_a_decoder_rehearses_a_prompt_an_answer_and_many_answers() -> None:
    prompt, answer, many = decoder_rehearsals(limits(4096, 400))
    assert prompt.arguments["token_ids"].shape == (512,)
    assert answer.arguments["context_lengths"].tolist() == [513]
    assert many.title == "12 answers after 512 tokens"
    assert many.arguments["block_tables"].shape == (12, 33)
    assert len(set(many.arguments["slots"].tolist())) == 12
    assert many.arguments["block_tables"].max() < 400
    assert many.state_sizes == {"num_blocks": 400}


def test_a_short_context_rehearses_what_fits() -> None:
    titles = [r.title for r in decoder_rehearsals(limits(8, 1))]
    assert titles == ["a prompt of 7 tokens", "an answer after 7 tokens"]
    assert list(decoder_rehearsals(limits(1, 1))) == []


@pytest.mark.parametrize(("most", "shapes"), [(512, [(1, 16), (8, 512)]), (9, [(1, 9), (8, 9)])])
def test_an_encoder_rehearses_one_short_text_and_a_batch(
    most: int, shapes: list[tuple[int, int]]
) -> None:
    assert [r.arguments["token_ids"].shape for r in encoder_rehearsals(most)] == shapes
