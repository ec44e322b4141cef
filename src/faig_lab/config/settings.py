"""The schema of our own settings: names, types, ranges and units of everything in `conf/`.

Nodes with a `_target_` are free-form here; `targets` checks them against the signature they name.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Node = dict[str, Any]
"""A `_target_` with its arguments."""

Count = Annotated[int, Field(ge=1)]
Percent = Annotated[float, Field(gt=0, le=100)]
Rule = Literal["left", "right", "midpoint", "trapezoid", "simpson", "gauss_legendre", "adaptive"]


class Group(BaseModel):
    """A group of settings: no unknown names, no silent conversions."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class GivenWeights(Group):
    """Where a trained network comes from instead of training."""

    weights: str | None = Field(description="weights file to read; null = train")


class DegradationSettings(Group):
    """What is done to HR on the way to LR."""

    downsample: Node = Field(description="HR to LR by network.scale")
    quantise: bool = Field(description="round LR to 8 bits")
    parts: dict[str, Node] = Field(min_length=1, description="degradations by name")


class PhaseSettings(Group):
    """Training of one network."""

    iterations: Count = Field(description="steps")
    learning_rate: float = Field(gt=0, description="at the start and after each restart")
    restart_every: Count = Field(description="steps between the cosine's restarts")
    minimum_learning_rate: float = Field(ge=0, description="just before a restart")


class TrainingSettings(Group):
    """Training of both networks."""

    batch_size: Count = Field(description="patches per step")
    patch_size: Count = Field(description="side in HR pixels, a multiple of network.scale")
    ema_decay: float = Field(ge=0, lt=1, description="of the averaged weights, per step")
    validate_every: Count = Field(description="steps")
    channels_last: bool = Field(description="memory format")
    workers: int = Field(ge=0, description="processes that cut patches; 0 = none beside the training")
    loss: Node
    optimizer: Node
    baseline: PhaseSettings
    target: PhaseSettings


class AttributionSettings(Group):
    """The path integral and the methods that reduce it to scores."""

    name: str = Field(description="the run's method, a key of methods")
    rule: Rule
    points: Count = Field(description="gradient evaluations per image and degradation; adaptive: at most")
    tolerance: float = Field(0.01, gt=0, lt=1, description="adaptive: relative error to settle to")
    precision: Literal["bfloat16", "float32", "float64"]
    methods: dict[str, Node] = Field(min_length=1)


class AnalysisSettings(Group):
    """What is done with the scores."""

    studies: dict[str, Node] = Field(min_length=1, description="the analyses, by name, in order")
    percents: list[Percent] = Field(min_length=1, description="of all filters, increasing")
    headline_percent: Percent = Field(description="one of percents")
    precision: Literal["bfloat16", "float32"] = Field(description="of the restored held-out images")


class TrainerSettings(Group):
    """Arguments of `pytorch_lightning.Trainer`; more than these are checked against its signature."""

    model_config = ConfigDict(extra="allow")

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"]
    devices: Any = Field(description="how many, -1 for all, or a list of indices")
    strategy: str
    num_nodes: Count
    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed", "bf16-true", "64-true"]


class LoggerSettings(Group):
    """The W&B run."""

    mode: Literal["auto", "online", "offline", "disabled"]
    project: str
    entity: str | None
    group: str | None
    tags: list[str]


class ExportSettings(Group):
    """What task=export writes."""

    file: str | None = Field(default=None, description="where to: .pt ours, .pth the authors' format, .npz a patch")
    strengths: dict[str, float] = Field(default_factory=dict, description="degradation to λ of its discovered filters")
    method: str | None = Field(default=None, description="whose filters; null = the run's")
    percent: Percent | None = Field(default=None, description="how many; null = the run's headline percent")


class Settings(Group):
    """The whole configuration of a run."""

    name: str = Field(pattern=r"^\w[\w.-]*$", description="names the output folder")
    task: Literal["study", "analyse", "export"] = Field(description="a whole study, or work on a finished run")
    run: str | None = Field(description="task=analyse, task=export: the folder of the finished run")
    export: ExportSettings = Field(
        default_factory=ExportSettings, description="task=export; runs from before it lack it"
    )
    seed: int = Field(ge=0, lt=2**32, description="everything random derives from it")
    store: str = Field(min_length=1, description="folder of trained networks")
    traceback: bool
    baseline: GivenWeights
    target: GivenWeights
    data: Node
    degradation: DegradationSettings
    network: Node
    training: TrainingSettings
    attribution: AttributionSettings
    analysis: AnalysisSettings
    trainer: TrainerSettings
    logger: LoggerSettings
