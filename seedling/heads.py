"""Train heads that guess the seedling's tokens: `python -m seedling.heads eagle OUTPUT`.

The seedling answers its training questions, and goes on writing behind some of them, and the head
learns to say what it said. The seedling itself does not change. A few minutes on two cores.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen3ForCausalLM
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

from banyan import LLM, SamplingOptions
from seedling.intents import all_phrasings, load_intents
from seedling.train import OUTPUT, write_json

SEED = 20261
MOST_TOKENS = 200
ROWS = 16
NUM_HEADS = 4
# An EAGLE head goes on from its own states, so it is trained to: so many steps of its own.
OWN_STEPS = 2


@dataclass(frozen=True, slots=True)
class Sample:
    """Tokens that the seedling saw or said; what is behind `first` it said."""

    token_ids: list[int]
    first: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one length: tokens [B, T] int64, states behind the last norm [B, T, H] float32.

    `said` [B, T] tells which tokens the seedling chose; the rest is prompts and padding.
    """

    token_ids: Tensor
    hidden: Tensor
    said: Tensor


def collect(model: Path, *, most_questions: int) -> list[Sample]:
    """Let the seedling answer, greedily and, for a third of the questions, as it comes."""
    phrasings = [p for p in all_phrasings(load_intents()) if not p.held_out]
    chosen = random.Random(SEED).sample(phrasings, min(most_questions, len(phrasings)))
    asked = [[{"role": "user", "content": phrasing.text}] for phrasing in chosen]
    greedy = SamplingOptions(temperature=0.0, max_tokens=96)
    free = SamplingOptions(temperature=1.0, seed=SEED, max_tokens=64, ignore_eos=True)
    with LLM(model, max_model_len=512, max_num_seqs=64) as llm:
        outputs = llm.chat(asked, greedy) + llm.chat(asked[::4], free)
    samples = []
    for output in outputs:
        prompt = list(output.prompt_token_ids)
        ids = prompt + list(output.outputs[0].token_ids)
        samples.append(Sample(ids[:MOST_TOKENS], len(prompt)))
    return samples


@torch.inference_mode()
def batches_of(model: Qwen3ForCausalLM, samples: Sequence[Sample]) -> list[Batch]:
    """Rows of like length together, with the seedling's states."""
    ordered = sorted(samples, key=lambda sample: len(sample.token_ids))
    found = []
    for start in range(0, len(ordered), ROWS):
        rows = ordered[start : start + ROWS]
        longest = max(len(row.token_ids) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.int64)
        said = torch.zeros(len(rows), longest, dtype=torch.bool)
        for number, row in enumerate(rows):
            ids[number, : len(row.token_ids)] = torch.tensor(row.token_ids)
            said[number, row.first : len(row.token_ids)] = True
        # Padding lies behind, where no token before it looks.
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        found.append(Batch(ids, hidden, said))
    return [Batch(b.token_ids.clone(), b.hidden.clone(), b.said.clone()) for b in found]


class EagleTrainee(nn.Module):
    """The head with the names of its file, and attention over whole rows."""

    def __init__(self, model: Qwen3ForCausalLM) -> None:
        super().__init__()
        c = model.config
        self.fc = nn.Linear(2 * c.hidden_size, c.hidden_size, bias=False)
        self.layers = nn.ModuleList([Qwen3DecoderLayer(c, layer_idx=0)])
        # The seedling's own last layer is a better beginning than chance.
        self.layers[0].load_state_dict(model.model.layers[-1].state_dict())
        self.layers[0].input_layernorm = nn.Identity()
        nn.init.normal_(self.fc.weight, std=0.02)
        self.fc.weight.data[:, c.hidden_size :] += torch.eye(c.hidden_size)

    def forward(self, embedded: Tensor, hidden: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Guess the next states [B, T, H] from embeddings and the states in front of them."""
        stream = self.fc(torch.cat((embedded, hidden), dim=-1))
        length = stream.shape[1]
        mask = torch.full((length, length), float("-inf")).triu(1)[None, None]
        result = self.layers[0](stream, attention_mask=mask, position_embeddings=rotation)
        guessed: Tensor = result[0] if isinstance(result, tuple) else result
        return guessed


class MedusaTrainee(nn.ModuleList):
    """The heads with the names of their file; each begins as the seedling's own matrix."""

    def __init__(self, model: Qwen3ForCausalLM) -> None:
        super().__init__()
        size, words = model.config.hidden_size, model.config.vocab_size
        for _ in range(NUM_HEADS):
            block, matrix = nn.Module(), nn.Linear(size, words, bias=False)
            block.linear = nn.Linear(size, size)
            nn.init.zeros_(block.linear.weight)
            nn.init.zeros_(block.linear.bias)
            matrix.weight.data.copy_(model.lm_head.weight)
            self.append(nn.ModuleList([block, matrix]))

    def forward(self, hidden: Tensor, number: int) -> Tensor:
        """What a head thinks of every word, for states [..., H]."""
        parts = self.get_submodule(str(number))
        linear, matrix = parts.get_submodule("0.linear"), parts.get_submodule("1")
        logits: Tensor = matrix(hidden + functional.silu(linear(hidden)))
        return logits


def eagle_loss(head: EagleTrainee, model: Qwen3ForCausalLM, batch: Batch) -> Tensor:
    """How far the guessed states and words are from the seedling's, over some steps of its own."""
    embedded = model.model.embed_tokens(batch.token_ids[:, 1:])
    positions = torch.arange(embedded.shape[1])[None]
    rotation = model.model.rotary_emb(embedded, positions)
    target = batch.hidden[:, 1:]
    given = batch.hidden[:, :-1]
    # A guess matters where the word behind it is one that the seedling chose.
    matters = functional.pad(batch.said[:, 2:], (0, 1))
    with torch.no_grad():
        wanted = functional.softmax(model.lm_head(target[matters]), dim=-1)
    total = torch.zeros(())
    for step in range(OWN_STEPS):
        guessed = head(embedded, given, rotation)
        logits = model.lm_head(guessed[matters])
        words = functional.cross_entropy(logits, wanted)
        states = functional.smooth_l1_loss(guessed[matters], target[matters])
        total = total + 0.8**step * (words + states)
        given = torch.cat((batch.hidden[:, :1], guessed[:, :-1]), dim=1).detach()
    return total


def medusa_loss(heads: MedusaTrainee, batch: Batch) -> Tensor:
    """Cross-entropy of each head's words, further ones counting less."""
    total = torch.zeros(())
    for number in range(NUM_HEADS):
        ahead = number + 2
        matters = batch.said[:, ahead:]
        logits = heads(batch.hidden[:, :-ahead][matters], number)
        loss = functional.cross_entropy(logits, batch.token_ids[:, ahead:][matters])
        total = total + 0.8**number * loss
    return total


def shuffled(batches: Sequence[Batch], epochs: int) -> Iterator[tuple[float, Batch]]:
    """Every batch once an epoch, with the part of the work that is done."""
    order = list(batches)
    source = random.Random(SEED)
    for epoch in range(epochs):
        source.shuffle(order)
        for number, batch in enumerate(order):
            yield (epoch + number / len(order)) / epochs, batch


def train(kind: str, model: Qwen3ForCausalLM, batches: Sequence[Batch], epochs: int) -> nn.Module:
    """Return a trained head."""
    head: EagleTrainee | MedusaTrainee
    head = EagleTrainee(model) if kind == "eagle" else MedusaTrainee(model)
    head.requires_grad_(True)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.0, betas=(0.9, 0.95), weight_decay=0.01)
    recent, count = 0.0, 0
    for done, batch in shuffled(batches, epochs):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, 20 * done + 0.05) * (1 - 0.95 * done)
        if isinstance(head, EagleTrainee):
            loss = eagle_loss(head, model, batch)
        else:
            loss = medusa_loss(head, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        recent, count = recent + loss.item(), count + 1
        if count == 10:
            print(
                f"{time.process_time():.0f} s {kind} {100 * done:3.0f} % loss {recent / count:.3f}",
                flush=True,
            )
            recent, count = 0.0, 0
    return head


def export(kind: str, head: nn.Module, folder: Path) -> None:
    """Write the heads as they are published: safetensors in bfloat16 and a config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: w.detach().to(torch.bfloat16) for name, w in head.state_dict().items()}
    if kind == "eagle":
        base = json.loads((OUTPUT / "config.json").read_text(encoding="utf-8"))
        base |= {"num_hidden_layers": 1, "layer_types": ["full_attention"]}
        write_json(folder / "config.json", base)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        own = {"medusa_num_heads": NUM_HEADS, "medusa_num_layers": 1}
        write_json(folder / "config.json", own | {"base_model_name_or_path": "seedling"})
        save_file(weights, folder / "medusa_lm_head.safetensors", metadata={"format": "pt"})


def main() -> None:
    """Collect, train and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("eagle", "medusa"))
    parser.add_argument("output", type=Path)
    parser.add_argument("--questions", type=int, default=1500)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(SEED)
    samples = collect(OUTPUT, most_questions=chosen.questions)
    model = Qwen3ForCausalLM.from_pretrained(OUTPUT, dtype=torch.float32).eval()
    model.requires_grad_(False)
    batches = batches_of(model, samples)
    export(chosen.kind, train(chosen.kind, model, batches, chosen.epochs), chosen.output)


if __name__ == "__main__":
    main()
