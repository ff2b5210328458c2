from pathlib import Path

import pytest
import transformers

from banyan.foundation.errors import ModelError, RequestError
from banyan.models.chat_template import ChatTemplate
from banyan.models.pairs import (
    InstructedPairs,
    JoinedPairs,
    TemplatePairs,
    read_answer_tokens,
)
from banyan.models.tokenizer import Tokenizer, cut_longer_first
from tests.conftest import Checkpoint


@pytest.mark.parametrize("limit", [7, 8, 20, 128])
@pytest.mark.parametrize("texts", [("a b c", "one two " * 9), ("one two " * 9, "a b c"), ("", "a")])
def test_a_joined_pair_is_cut_as_transformers_cuts_it(
    checkpoint: Checkpoint, limit: int, texts: tuple[str, str]
) -> None:
    directory = checkpoint("bert_labels")
    reference = transformers.AutoTokenizer.from_pretrained(directory)
    expected = reference(*texts, truncation=True, max_length=limit, return_token_type_ids=True)
    found = JoinedPairs(Tokenizer.read(directory)).encode(*texts, max_tokens=limit)
    assert list(found.token_ids) == expected["input_ids"]
    assert list(found.token_types) == expected["token_type_ids"]


def test_the_longer_text_is_cut_first() -> None:
    assert cut_longer_first(3, 4, limit=7) == (3, 4)
    assert cut_longer_first(2, 9, limit=7) == (2, 5)
    assert cut_longer_first(9, 2, limit=7) == (5, 2)
    assert cut_longer_first(9, 9, limit=7) == (3, 4)
    assert cut_longer_first(10, 9, limit=7) == (4, 3)
    assert cut_longer_first(5, 5, limit=0) == (0, 0)


def test_the_wording_of_qwen_surrounds_a_pair_and_survives_a_cut(checkpoint: Checkpoint) -> None:
    tokenizer = Tokenizer.read(checkpoint("qwen3"))
    pairs = InstructedPairs(tokenizer)
    whole = pairs.encode("roots", "tree " * 50, max_tokens=2000)
    text = tokenizer.decode(whole.token_ids, skip_special_tokens=False)
    assert text.startswith("<|im_start|>system\nJudge whether")
    assert "<Query>: roots\n<Document>: tree tree" in text
    assert text.endswith("<think>\n\n</think>\n\n")
    cut = pairs.encode("roots", "tree " * 50, max_tokens=len(whole.token_ids) - 9)
    assert len(cut.token_ids) == len(whole.token_ids) - 9
    assert tokenizer.decode(cut.token_ids).endswith("</think>\n\n")
    with pytest.raises(RequestError, match="no room for the wording"):
        pairs.encode("roots", "tree", max_tokens=20)


def test_a_template_with_both_roles_writes_the_pair(checkpoint: Checkpoint) -> None:
    tokenizer = Tokenizer.read(checkpoint("qwen3"))
    template = ChatTemplate(
        "{% for m in messages %}{% if m['role'] == 'query' %}Q{% endif %}"
        "{% if m['role'] == \"document\" %}D{% endif %}{{ m['content'] }}{% endfor %}"
    )
    assert template.knows_roles("query", "document")
    assert not template.knows_roles("query", "system")
    pair = TemplatePairs(tokenizer, template.render).encode("one", "two", max_tokens=5)
    assert tokenizer.decode(pair.token_ids) == "QoneDtwo"


def test_a_tokenizer_without_yes_and_no_cannot_rerank(checkpoint: Checkpoint) -> None:
    directory: Path = checkpoint("qwen3")
    with pytest.raises(ModelError, match="no tokens 'yes' and 'no'"):
        read_answer_tokens(directory, Tokenizer.read(directory))
