"""From the options to what guesses."""

from dataclasses import dataclass, replace

from banyan.compiler.executable import Executable
from banyan.engine.options import EngineLimits
from banyan.engine.speculation.draft_model import DraftModel
from banyan.engine.speculation.eagle import Eagle
from banyan.engine.speculation.hidden_log import HiddenLog
from banyan.engine.speculation.medusa import Medusa
from banyan.engine.speculation.prompt_lookup import PromptLookup
from banyan.engine.speculation.proposer import Proposer
from banyan.engine.speculation.speculator import Speculator
from banyan.engine.speculation_options import MOST_GUESSES, SpeculationOptions

# Medusa heads read the state of one token, which is among those of the last step.
_STEP_ROWS = MOST_GUESSES + 1


@dataclass(frozen=True, slots=True)
class LoadedDraft:
    """A draft model or heads with their weights, their cache not yet allocated.

    Attributes:
        executable: the program.
        method: "draft_model", "eagle" or "medusa".
        longest: its context.
        bytes_per_block: what its cache takes for 16 tokens.
    """

    executable: Executable
    method: str
    longest: int
    bytes_per_block: int

    @property
    def reads_hidden(self) -> bool:
        """Whether the model that checks has to give its hidden states."""
        return self.method != "draft_model"


def make_speculator(
    chosen: SpeculationOptions | None,
    limits: EngineLimits,
    draft: LoadedDraft | None,
    vocab_size: int,
) -> Speculator | None:
    """Make what guesses for an engine with these limits; allocates the draft model's cache."""
    if chosen is None:
        return None
    proposer: Proposer
    log = None
    if draft is None:
        proposer = PromptLookup(shortest=chosen.prompt_lookup_min, longest=chosen.prompt_lookup_max)
    else:
        # As many blocks as the model that checks: the cache of a smaller one is smaller.
        limits = replace(limits, max_model_len=min(limits.max_model_len, draft.longest))
        program = draft.executable
        if draft.method == "medusa":
            log = HiddenLog(most_rows=_STEP_ROWS)
            proposer = Medusa(program, log)
        else:
            program.allocate_state({"num_blocks": limits.num_blocks})
            if draft.method == "eagle":
                log = HiddenLog(most_rows=limits.token_budget)
                proposer = Eagle(program, limits, log)
            else:
                proposer = DraftModel(program, limits, vocab_size=vocab_size)
    most = chosen.num_speculative_tokens
    return Speculator(proposer, most=most, always=chosen.always, log=log)
