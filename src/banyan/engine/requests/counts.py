"""What an engine has done so far, and the statistics made of it."""

from dataclasses import dataclass, field

from banyan.engine.events import EngineStatistics
from banyan.engine.requests.adapter_use import AdapterUse
from banyan.engine.requests.reception import Reception
from banyan.engine.requests.residency import Residency
from banyan.engine.requests.sight import Sight
from banyan.engine.scheduling.scheduler import Step
from banyan.engine.step_sizes import StepSizes


@dataclass(slots=True)
class EngineCounts:
    """Counters that only grow.

    Attributes:
        generated: tokens sampled.
        prefilled: prompt tokens computed.
        preemptions: times a sequence had to stand back.
        steps: steps that ran the model.
        drafted: guesses that the model checked.
        accepted: guesses that were right.
        step_sizes: steps by their number of tokens.
    """

    generated: int = 0
    prefilled: int = 0
    preemptions: int = 0
    steps: int = 0
    drafted: int = 0
    accepted: int = 0
    step_sizes: StepSizes = field(default_factory=StepSizes)

    def note_step(self, step: Step) -> None:
        """Count a step that ran the model, and its tokens, guessed ones included."""
        self.steps += 1
        self.step_sizes.note(sum(slice_.num_tokens + slice_.drafts for slice_ in step.slices))

    def statistics(
        self,
        num_running: int,
        reception: Reception,
        residency: Residency,
        sight: Sight,
        used: AdapterUse,
    ) -> EngineStatistics:
        """Give these and what the parts of the engine count."""
        seen = sight.counts
        return EngineStatistics(
            num_waiting=len(reception.line),
            num_running=num_running,
            num_free_blocks=residency.num_free_blocks,
            num_blocks=residency.num_blocks,
            tokens_generated=self.generated,
            tokens_prefilled=self.prefilled,
            preemptions=self.preemptions,
            num_steps=self.steps,
            tokens_drafted=self.drafted,
            tokens_accepted=self.accepted,
            prefix_cache_queries=residency.num_queried_tokens,
            prefix_cache_hits=residency.num_found_tokens,
            blocks_saved=residency.num_saved_blocks,
            blocks_loaded=residency.num_loaded_blocks,
            requests_refused=reception.num_refused,
            deadlines_missed=reception.num_late,
            image_rows_held=sight.num_rows,
            images_asked=seen.images_asked,
            images_encoded=seen.images_encoded,
            image_rows=seen.rows_encoded,
            image_seconds=seen.encode_seconds,
            step_sizes=self.step_sizes.counts(),
            step_tokens=self.step_sizes.num_tokens,
            adapters_running=used.running,
            adapters_waiting=used.waiting,
        )
