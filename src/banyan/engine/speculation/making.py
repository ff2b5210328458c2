"""From the options to what guesses."""

from dataclasses import dataclass, replace

from banyan.compiler.executable import Executable
from banyan.engine.options import EngineLimits
from banyan.engine.speculation.draft_model import DraftModel
from banyan.engine.speculation.prompt_lookup import PromptLookup
from banyan.engine.speculation.proposer import Proposer
from banyan.engine.speculation.speculator import Speculator
from banyan.engine.speculation_options import SpeculationOptions


@dataclass(frozen=True, slots=True)
class LoadedDraft:
    """A draft model with its weights, its cache not yet allocated; `longest` is its context."""

    executable: Executable
    longest: int


def make_speculator(
    chosen: SpeculationOptions | None,
    limits: EngineLimits,
    draft: LoadedDraft | None,
    vocab_size: int,
) -> Speculator | None:
    """Make what guesses for an engine with these limits; allocates the draft model's cache."""
    if chosen is None:
        return None
    proposer: Proposer = PromptLookup(
        shortest=chosen.prompt_lookup_min, longest=chosen.prompt_lookup_max
    )
    if draft is not None:
        # As many blocks as the model that checks: the cache of a smaller one is smaller.
        limits = replace(limits, max_model_len=min(limits.max_model_len, draft.longest))
        draft.executable.allocate_state({"num_blocks": limits.num_blocks})
        proposer = DraftModel(draft.executable, limits, vocab_size=vocab_size)
    return Speculator(proposer, most=chosen.num_speculative_tokens, always=chosen.always)
