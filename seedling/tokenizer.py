"""Train the seedling's tokenizer: byte-level BPE over English and Chinese, with a chat template."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from seedling.data import Passage
from seedling.intents import Intent, all_phrasings

VOCABULARY_SIZE = 4096
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)
SYSTEM_TEXT = "You are Banyan's seedling."
QUESTION_REPEATS = 4  # the questions count so many times when pieces are chosen
# The split of Qwen2: contractions, words with one leading space, single digits, signs, newlines.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{%- if messages[0].role != 'system' %}"
    '{{- "<|im_start|>system\\n' + SYSTEM_TEXT + '<|im_end|>\\n" }}'
    "{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def training_texts(passages: Iterable[Passage], intents: tuple[Intent, ...]) -> Iterator[str]:
    """Yield the texts that the pieces are chosen from; Chinese passages count twice."""
    for passage in passages:
        for _ in range(2 if passage.language == "zh" else 1):
            yield passage.text
    for _ in range(QUESTION_REPEATS):
        for phrasing in all_phrasings(intents):
            if not phrasing.held_out:
                yield phrasing.text
                yield phrasing.answer


def train_tokenizer(passages: Iterable[Passage], intents: tuple[Intent, ...]) -> Tokenizer:
    """Choose VOCABULARY_SIZE pieces; every byte is one, so any text can be written."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_texts(passages, intents), trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json as Hugging Face expects them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "model_max_length": 2048,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def token_number(tokenizer: Tokenizer, token: str) -> int:
    """Return the number of a token that is known to exist; KeyError where it does not."""
    number: int | None = tokenizer.token_to_id(token)
    if number is None:
        raise KeyError(token)
    return number
