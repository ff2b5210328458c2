import json
import threading
import time
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models

from banyan.foundation.errors import ModelError, RequestError
from banyan.models.tokenizer import Tokenizer
from tests.conftest import Checkpoint


def test_text_survives_the_way_to_ids_and_back(checkpoint: Checkpoint) -> None:
    tokenizer = Tokenizer.read(checkpoint("llama"))
    text = "The banyan, \u4e2d\u56fd, and \U0001f333."
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == 320


@pytest.mark.parametrize("family", ["llama", "bert"])
@pytest.mark.parametrize("with_special", [False, True])
def test_a_long_text_has_the_tokens_of_its_parts(
    checkpoint: Checkpoint, family: str, with_special: bool
) -> None:
    backend = tokenizers.Tokenizer.from_file(str(checkpoint(family) / "tokenizer.json"))
    text = "the capital of France is Paris<|im_end|> " * 500
    expected = backend.encode(text, add_special_tokens=with_special).ids
    found = Tokenizer.read(checkpoint(family)).encode(text, add_special_tokens=with_special)
    assert found == expected


def test_other_threads_go_on_while_a_long_text_is_encoded(checkpoint: Checkpoint) -> None:
    tokenizer = Tokenizer.read(checkpoint("llama"))
    text = "The banyan, and its many roots. " * 20_000
    encoding = threading.Thread(target=tokenizer.encode, args=(text,))
    started = time.perf_counter()
    encoding.start()
    num_turns = 0
    while encoding.is_alive():
        time.sleep(0.001)
        num_turns += 1
    # Under a lock there is one turn, after the end.
    assert num_turns > 5, f"{num_turns} turns in {time.perf_counter() - started:.1f} s"


def test_special_tokens_are_known_by_text_and_left_out_of_answers(checkpoint: Checkpoint) -> None:
    tokenizer = Tokenizer.read(checkpoint("llama"))
    assert tokenizer.special_ids == {0, 1, 2}
    assert tokenizer.eos_token_id == 2
    ids = tokenizer.encode("hi<|im_end|>")
    assert ids[-1] == 2
    assert tokenizer.decode(ids) == "hi"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "hi<|im_end|>"
    assert tokenizer.token_text(2) == "<|im_end|>"
    assert tokenizer.token_id("no such token") is None


def test_ids_beyond_the_vocabulary_give_no_text(checkpoint: Checkpoint) -> None:
    tokenizer = Tokenizer.read(checkpoint("llama"))
    assert tokenizer.decode([*tokenizer.encode("hi"), 5000]) == "hi"
    assert tokenizer.token_text(5000) is None


def test_a_cut_text_keeps_its_special_tokens(checkpoint: Checkpoint) -> None:
    tokenizer = Tokenizer.read(checkpoint("bert"))
    whole = tokenizer.encode("the capital of France is Paris")
    assert (whole[0], whole[-1]) == (2, 3)
    cut = tokenizer.encode_cut("the capital of France is Paris", max_tokens=5)
    assert cut == [*whole[:4], 3]
    assert tokenizer.encode_cut("the capital of France is Paris", max_tokens=500) == whole
    assert 2 not in tokenizer.encode("the", add_special_tokens=False)


def test_truncation_and_padding_of_the_training_script_are_ignored(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    backend = tokenizers.Tokenizer.from_file(str(checkpoint("llama") / "tokenizer.json"))
    backend.enable_truncation(4)
    backend.enable_padding(length=6)
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.read(tmp_path)
    assert tokenizer.encode("abcdefgh") == Tokenizer.read(checkpoint("llama")).encode("abcdefgh")
    assert len(tokenizer.encode("a")) == 1


def test_half_a_surrogate_pair_is_refused_with_its_place(checkpoint: Checkpoint) -> None:
    tokenizer = Tokenizer.read(checkpoint("llama"))
    with pytest.raises(RequestError, match=r"the character U\+D800 at position 2"):
        tokenizer.encode("ab\ud800")
    with pytest.raises(RequestError, match="send valid UTF-8"):
        tokenizer.encode_cut("\udfff", max_tokens=5)


def test_special_tokens_may_be_objects_or_in_their_own_file(tmp_path: Path) -> None:
    tokenizers.Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "special_tokens_map.json").write_text('{"bos_token": {"content": "<s>"}}')
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": {"content": "</s>"}, "pad_token": None, "unk_token": 3})
    )
    tokenizer = Tokenizer.read(tmp_path)
    assert tokenizer.named_tokens == {"bos_token": "<s>", "eos_token": "</s>"}
    assert tokenizer.eos_token_id is None


def test_a_tokenizer_without_named_tokens_has_no_end_token(tmp_path: Path) -> None:
    tokenizers.Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer.read(tmp_path).eos_token_id is None


def test_an_absent_or_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no tokenizer\.json; convert its tokenizer"):
        Tokenizer.read(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": 1}')
    with pytest.raises(ModelError, match=r"tokenizer\.json is not a tokenizer file"):
        Tokenizer.read(tmp_path)
