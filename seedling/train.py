"""Train the seedling from scratch: `python -m seedling.train`.

Three stages: `text` learns the two languages from the collected corpus, with some questions mixed
in; `questions` learns to answer, with a loss on the answers only; `review` does so again from a
fresh optimizer. What a step sees depends on the seed, the stage and its number alone, so a run
that was stopped goes on as if it had not been.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import Qwen3Config, Qwen3ForCausalLM

from seedling.conversations import (
    IGNORED,
    ConversationMaker,
    Rows,
    TextMaker,
    attention_mask,
    pack,
)
from seedling.data import DEFAULT_CACHE, REPOSITORY, collect, load_passages
from seedling.intents import Intent, all_phrasings, load_intents
from seedling.stray import stray_words
from seedling.tokenizer import (
    END_OF_TEXT,
    TURN_END,
    VOCABULARY_SIZE,
    save_tokenizer,
    token_number,
    train_tokenizer,
)

SEED = 20260
ROW_LENGTH = 256
ROPE_THETA = 10000.0
WARM_UP_STEPS = 100
STEPS_BETWEEN_CHECKPOINTS = 200
OUTPUT = REPOSITORY / "models" / "seedling"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: its length, rows per step, highest learning rate and share of plain text."""

    name: str
    num_steps: int
    num_rows: int
    peak_rate: float
    text_share: float
    answers_only: bool


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where a run keeps its files and what asks it to wait."""

    cache: Path
    pause_file: Path

    def checkpoint(self, stage: Stage) -> Path:
        """Return the file that a stage's state is kept in."""
        return self.cache / f"{stage.name}.pt"


class Batches:
    """The rows of every step of a stage."""

    def __init__(
        self, tokenizer: Tokenizer, stage: Stage, intents: tuple[Intent, ...], cache: Path
    ) -> None:
        passages = load_passages(cache)
        texts = [p.text for p in passages for _ in range(2 if p.language == "zh" else 1)]
        self._stage = stage
        self._padding = token_number(tokenizer, END_OF_TEXT)
        self._texts = TextMaker(tokenizer, texts if stage.text_share else [], ROW_LENGTH)
        self._conversations = ConversationMaker(
            tokenizer,
            all_phrasings(intents),
            stray_words(passages, intents),
            answers_only=stage.answers_only,
        )

    def rows(self, step: int) -> Rows:
        """Return the rows of a step; the same for the same seed, stage and step."""
        source = random.Random(f"{SEED} {self._stage.name} {step}")
        kinds = (self._texts, self._conversations)
        return pack(
            lambda: kinds[source.random() >= self._stage.text_share].make(source),
            self._stage.num_rows,
            ROW_LENGTH,
            self._padding,
        )


def model_configuration(tokenizer: Tokenizer) -> Qwen3Config:
    """Return the shape of the seedling: 5.8 million parameters, embeddings tied."""
    return Qwen3Config(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=2048,
        rope_theta=ROPE_THETA,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=token_number(tokenizer, TURN_END),
        pad_token_id=token_number(tokenizer, END_OF_TEXT),
    )


def learning_rate(stage: Stage, step: int) -> float:
    """Return the rate of a step: a linear rise, then half a cosine down to a twentieth."""
    rise = min(1.0, (step + 1) / WARM_UP_STEPS)
    fall = 0.5 * (1 + math.cos(math.pi * step / stage.num_steps))
    return stage.peak_rate * rise * (0.05 + 0.95 * fall)


def make_optimizer(model: Qwen3ForCausalLM) -> torch.optim.AdamW:
    """Build AdamW; only matrices decay."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), fused=True)


def loss_of(model: Qwen3ForCausalLM, rows: Rows) -> torch.Tensor:
    """Return the mean cross-entropy over the labelled tokens, matrices multiplied in bfloat16.

    Logits are computed where there is a label only.
    """
    wanted = rows.labels[:, 1:]
    labelled = wanted != IGNORED
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(
            input_ids=rows.token_ids,
            attention_mask=attention_mask(rows.owners),
            position_ids=rows.positions,
            use_cache=False,
        ).last_hidden_state
        logits = model.lm_head(hidden[:, :-1][labelled])
    return torch.nn.functional.cross_entropy(logits.float(), wanted[labelled])


def wait_while_paused(pause_file: Path) -> None:
    """Sleep for as long as the pause file exists."""
    while pause_file.exists():
        time.sleep(2)


def run_stage(model: Qwen3ForCausalLM, stage: Stage, batches: Batches, place: Workplace) -> None:
    """Train one stage, from its checkpoint if there is one."""
    optimizer = make_optimizer(model)
    checkpoint = place.checkpoint(stage)
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        first = state["step"]
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    model.train()
    started, recent = time.monotonic(), 0.0
    for step in range(first, stage.num_steps):
        wait_while_paused(place.pause_file)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(stage, step)
        loss = loss_of(model, batches.rows(step))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        recent += loss.item()
        done = step + 1
        if done % 20 == 0:
            pace = (done - first) * stage.num_rows * ROW_LENGTH / (time.monotonic() - started)
            print(
                f"{stage.name} {done}/{stage.num_steps} loss {recent / 20:.3f} {pace:.0f} tokens/s",
                flush=True,
            )
            recent = 0.0
        if done % STEPS_BETWEEN_CHECKPOINTS == 0 or done == stage.num_steps:
            save_checkpoint(model, optimizer, done, checkpoint)


def save_checkpoint(
    model: Qwen3ForCausalLM, optimizer: torch.optim.AdamW, step: int, path: Path
) -> None:
    """Replace the checkpoint in one move, so that a stop leaves a whole one."""
    fresh = path.with_suffix(".new")
    state = {"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, fresh)
    fresh.replace(path)


def load_or_train_tokenizer(cache: Path, intents: tuple[Intent, ...]) -> Tokenizer:
    """Return the tokenizer of the cache folder; train it where there is none."""
    path = cache / "tokenizer.json"
    if not path.exists():
        save_tokenizer(train_tokenizer(load_passages(cache), intents), cache)
    return Tokenizer.from_file(str(path))


def export(
    model: Qwen3ForCausalLM, tokenizer: Tokenizer, folder: Path, stages: Sequence[Stage]
) -> None:
    """Write the Hugging Face directory: bfloat16 weights, tokenizer, generation defaults."""
    model.eval()
    model.to(torch.bfloat16).save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    configuration = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # Readers older than `rope_parameters` and `dtype` look for these names.
    configuration |= {"rope_theta": ROPE_THETA, "torch_dtype": "bfloat16"}
    write_json(folder / "config.json", configuration)
    ends = [token_number(tokenizer, TURN_END), token_number(tokenizer, END_OF_TEXT)]
    defaults = {
        "do_sample": False,
        "temperature": 0.0,
        "eos_token_id": ends,
        "pad_token_id": ends[1],
        "max_new_tokens": 128,
    }
    write_json(folder / "generation_config.json", defaults)
    recipe = {
        "seed": SEED,
        "row_length": ROW_LENGTH,
        "stages": [asdict(stage) for stage in stages],
    }
    write_json(folder / "training.json", recipe)


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON file with one key per line."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Collect what is missing, run all stages and write the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--pause-file", type=Path, default=DEFAULT_CACHE / "pause")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--text-steps", type=int, default=1000)
    parser.add_argument("--question-steps", type=int, default=3900)
    parser.add_argument("--review-steps", type=int, default=3200)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(SEED)
    if not (arguments.cache / "corpus.jsonl").exists():
        collect(arguments.cache)
    intents = load_intents()
    tokenizer = load_or_train_tokenizer(arguments.cache, intents)
    model = Qwen3ForCausalLM(model_configuration(tokenizer))
    place = Workplace(arguments.cache, arguments.pause_file)
    stages = (
        Stage("text", arguments.text_steps, 8, 1e-3, 0.7, answers_only=False),
        Stage("questions", arguments.question_steps, 4, 1.2e-3, 0.0, answers_only=True),
        Stage("review", arguments.review_steps, 4, 7e-4, 0.0, answers_only=True),
    )
    for stage in stages:
        if stage.num_steps:
            run_stage(model, stage, Batches(tokenizer, stage, intents, arguments.cache), place)
    export(model, tokenizer, arguments.output, stages)


if __name__ == "__main__":
    main()
