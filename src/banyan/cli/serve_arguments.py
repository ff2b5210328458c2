"""What `banyan serve` takes, and what it makes of it."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from banyan.cli import adapter_options as lora
from banyan.cli.option_types import (
    ActivationOption,
    DeviceOption,
    DtypeOption,
    Model,
    ThreadsOption,
)
from banyan.cli.plan_options import (
    AllowDrainOption,
    PlanDevicesOption,
    PlanOption,
    PlanSecretOption,
    PlanWorkersOption,
    PlanWorkloadOption,
    RebalanceOption,
    StandbyOption,
    care_of,
    plan_text_of,
    plan_workers_of,
)
from banyan.cli.serve_option_types import (
    AllowSwapOption,
    BodyOption,
    CacheOption,
    CallerRequestsOption,
    DeferredExpertsOption,
    DrainSecondsOption,
    FirstTokenGoalOption,
    HostOption,
    LatencyGoalOption,
    LengthOption,
    MaxImagePixelsOption,
    MaxImagesOption,
    MaxImageTokensOption,
    MemoryOption,
    MetricNamesOption,
    ModeOption,
    NameOption,
    OutputFormatOption,
    PortOption,
    PrefixOption,
    PresetOption,
    QuantizationOption,
    ReasoningParserOption,
    SequencesOption,
    SpeculationOption,
    StepTokensOption,
    StoreOption,
    StoreSizeOption,
    SwapOption,
    TaskOption,
    TemplateOption,
    ToolParserOption,
    TracesOption,
    UntilInputEndsOption,
    WaitingRequestsOption,
    WaitingTokensOption,
)

if TYPE_CHECKING:
    from banyan.cli.serve import ServeOptions
    from banyan.engine.options import EngineOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeArguments:
    """One field for each option, in the order of the help.

    What `EngineOptions` has a field for is called as there.
    """

    model: Model = None
    device: DeviceOption = "auto"
    dtype: DtypeOption = "auto"
    host: HostOption = "127.0.0.1"
    port: PortOption = 8000
    max_model_len: LengthOption = None
    max_num_seqs: SequencesOption = None
    max_num_batched_tokens: StepTokensOption = None
    preset: PresetOption = None
    threads: ThreadsOption = None
    memory: MemoryOption = None
    quantization: QuantizationOption = None
    quantization_output: OutputFormatOption = None
    activation: ActivationOption = None
    kv_cache_dtype: CacheOption = "auto"
    deferred_experts: DeferredExpertsOption = 0
    speculative_config: SpeculationOption = None
    mode: ModeOption = "fast"
    task: TaskOption = "auto"
    enable_prefix_caching: PrefixOption = True
    swap_space_gb: SwapOption = 0.0
    prefix_store: StoreOption = None
    prefix_store_gb: StoreSizeOption = 8.0
    latency_goal_ms: LatencyGoalOption = None
    first_token_goal_ms: FirstTokenGoalOption = None
    max_waiting_requests: WaitingRequestsOption = 1024
    max_waiting_tokens: WaitingTokensOption = None
    served_model_name: NameOption = None
    max_body_megabytes: BodyOption = 16
    max_requests_per_caller: CallerRequestsOption = 0
    drain_seconds: DrainSecondsOption = 30
    allow_swap: AllowSwapOption = False
    enable_lora: lora.EnableLoraOption = False
    max_loras: lora.MaxLorasOption = 8
    max_lora_rank: lora.LoraRankOption = 16
    lora_dtype: lora.LoraDtypeOption = "auto"
    max_cpu_loras: lora.CpuLorasOption = None
    lora_modules: lora.LoraModulesOption = None
    plan: PlanOption = None
    plan_workers: PlanWorkersOption = None
    plan_secret: PlanSecretOption = None
    plan_devices: PlanDevicesOption = None
    plan_workload: PlanWorkloadOption = "prompt=512,answer=128"
    rebalance: RebalanceOption = False
    allow_drain: AllowDrainOption = False
    standby: StandbyOption = True
    until_input_ends: UntilInputEndsOption = False
    trust_request_chat_template: TemplateOption = False
    metric_names: MetricNamesOption = "both"
    otlp_traces_endpoint: TracesOption = None
    tool_call_parser: ToolParserOption = "auto"
    reasoning_parser: ReasoningParserOption = "auto"
    max_images: MaxImagesOption = 16
    max_image_megapixels: MaxImagePixelsOption = 64
    # Some models let a photograph take 16,384 tokens: minutes on a CPU in which nobody is answered.
    max_image_tokens: MaxImageTokensOption = 1280

    def serve_options(self) -> "ServeOptions":
        """Read what was asked.

        Raises:
            InputError: an option cannot be used; says which and why.
        """
        # Takes a second to import what a server is made of: `banyan --help` goes without.
        from banyan.cli.api_options import api_options  # noqa: PLC0415
        from banyan.cli.serve import ServeOptions  # noqa: PLC0415
        from banyan.cli.shipped import find_model  # noqa: PLC0415
        from banyan.models.vision.image_prompts import ImageLimits  # noqa: PLC0415

        return ServeOptions(
            model=find_model(self.model),
            engine=self._engine_options(),
            host=self.host,
            port=self.port,
            served_model_name=self.served_model_name,
            max_body_bytes=self.max_body_megabytes * 2**20,
            max_requests_per_caller=self.max_requests_per_caller,
            drain_seconds=self.drain_seconds,
            allow_swap=self.allow_swap,
            until_input_ends=self.until_input_ends,
            keeps_standby=self.standby and self.plan is not None,
            care=care_of(
                self.plan_devices,
                self.plan_workload,
                rebalance=self.rebalance,
                allow_drain=self.allow_drain,
            ),
            api=api_options(
                self.trust_request_chat_template,
                self.metric_names,
                self.otlp_traces_endpoint,
                (self.tool_call_parser, self.reasoning_parser),
                ImageLimits(
                    max_images=self.max_images,
                    max_bytes=self.max_body_megabytes * 2**20,
                    max_pixels=self.max_image_megapixels * 10**6,
                ),
            ),
        )

    def _engine_options(self) -> "EngineOptions":
        from banyan.engine.options import EngineOptions  # noqa: PLC0415
        from banyan.engine.presets import chosen_options  # noqa: PLC0415
        from banyan.engine.speculation_options import read_speculation  # noqa: PLC0415

        known = {field.name for field in fields(EngineOptions)}
        same = {f.name: getattr(self, f.name) for f in fields(self) if f.name in known}
        read = {
            "speculation": read_speculation(self.speculative_config),
            "lora_modules": lora.lora_modules_of(self.lora_modules),
            "plan": plan_text_of(self.plan),
            "plan_workers": plan_workers_of(self.plan_workers),
            "plan_secret": None if self.plan_secret is None else str(self.plan_secret),
        }
        return chosen_options(self.preset, same | read)
