"""The schema of the settings: names, types, ranges and units of everything in `conf/`.

Nodes with a `_target_` have any content here. `targets` checks them against the signature of the target.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from faig_lab.files import FILE_NAME
from faig_lab.granularity import Granularity

Node = dict[str, Any]
"""A `_target_` with its arguments."""


def _file_name(name: str) -> str:
    if not re.fullmatch(FILE_NAME, name):
        raise ValueError("becomes the name of a file; use letters, digits, _, - and . (100 at most)")
    return name


FileName = Annotated[str, AfterValidator(_file_name)]
"""A name that becomes the name of a file, or a part of the name."""

Count = Annotated[int, Field(ge=1)]
Percent = Annotated[float, Field(gt=0, le=100)]
Rule = Literal["left", "right", "midpoint", "trapezoid", "simpson", "gauss_legendre", "adaptive"]


class Group(BaseModel):
    """A group of settings: no unknown names, no silent conversions."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class GivenWeights(Group):
    """The weights file of a network that is not trained."""

    weights: str | None = Field(description="weights file to read, or package:NAME, which faig_lab ships; null = train")


class PlantedSettings(Group):
    """A target with known filters: only a random set of filters learns each degradation."""

    percent: Percent = Field(description="of all filters, in the set of each degradation")
    turn: Count = Field(description="steps of a turn, after which the next group of weights is trained")
    rate: float = Field(gt=0, description="learning rate of the sets, in times training.target.learning_rate")
    drift: float = Field(gt=0, description="learning rate of all other weights, on clean input, in the same unit")
    drift_steps: int = Field(
        ge=0, description="steps at the start in which all other weights alone are trained; 0 = they take turns instead"
    )
    layers: list[str] | None = Field(description="names with * and ? of the layers of the sets; null = all")


class TargetSettings(GivenWeights):
    """The weights file of the target, or the settings of its training."""

    planted: PlantedSettings | None = Field(default=None, description="plant each function; null = train everything")


class DegradationSettings(Group):
    """The degradation from HR to LR."""

    downsample: Node = Field(description="HR to LR by network.scale")
    quantise: bool = Field(description="round LR to 8 bits")
    sharpen_truth: bool = Field(
        False, description="the losses of training and attribution compare with unsharp-masked HR; PSNR with HR itself"
    )
    choose: Literal["each", "one"] = Field(
        "each", description="each = every part with its probability; one = one part a sample, in proportion to these"
    )
    parts: dict[FileName, Node] = Field(min_length=1, description="degradations by name")


class PhaseSettings(Group):
    """Training of one network."""

    iterations: Count = Field(description="steps")
    learning_rate: float = Field(gt=0, description="at the start and after each restart")
    restart_every: Count = Field(description="steps between the cosine's restarts")
    minimum_learning_rate: float = Field(ge=0, description="just before a restart")
    warmup: int = Field(0, ge=0, description="steps at the start in which the learning rate rises linearly")


class TrainingSettings(Group):
    """Training of both networks."""

    batch_size: Count = Field(description="patches per step")
    patch_size: Count = Field(description="side in HR pixels, a multiple of network.scale")
    ema_decay: float = Field(ge=0, lt=1, description="of the averaged weights, per step")
    validate_every: Count = Field(description="steps")
    checkpoint_every: Count = Field(500, description="steps; a killed training loses at most these steps")
    channels_last: bool | Literal["auto"] = Field(
        description="memory format; auto = the faster one on this processor, measured once"
    )
    workers: int = Field(ge=0, description="processes that cut patches; 0 = none beside the training")
    patches: Literal["auto", "host", "device"] = Field(
        "auto",
        description="where patches are cut and degraded; auto = on a GPU if the photographs fit there, else host; "
        "host and device draw other samples",
    )
    cuda_graphs: bool = Field(True, description="on one GPU, replay forward and backward pass as CUDA graphs")
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
    path: Literal["straight", "trajectory", "curve"] = Field(
        "straight", description="path in weight space that the loss gradient is integrated along"
    )
    path_states: Count = Field(7, description="path=trajectory: averaged weights saved during the target's training")
    curve_steps: Count = Field(300, description="path=curve: optimizer steps for the middle point, on the probe")
    precision: Literal["bfloat16", "float32", "float64"]
    memory: float | None = Field(3.0, gt=0, description="GB of a gradient evaluation; larger images are cut into tiles")
    together: Count = Field(1, description="points evaluated at once; pays for tiny images and networks")
    compile: Literal["default", "reduce-overhead", "max-autotune"] | None = Field(
        None, description="mode of torch.compile; null: not compiled"
    )
    cuda_graphs: bool = Field(True, description="on a GPU, record a pass and replay it for images of one size")
    loss: Node | None = Field(None, description="of the output, a sum over pixels; null: the squared error")
    truth: Literal["ground_truth", "target"] = Field(
        "ground_truth", description="what the output is compared with; target: the target's own output"
    )
    granularity: Granularity = Field("filter", description="what is scored and masked")
    rank_other_parameters: bool = Field(False, description="score and mask biases and all that is no kernel, too")
    methods: dict[FileName, Node] = Field(min_length=1)


class AnalysisSettings(Group):
    """The studies of the scores."""

    studies: dict[FileName, Node] = Field(min_length=1, description="the analyses, by name, in order")
    percents: list[Percent] = Field(min_length=1, description="of all filters, increasing")
    headline_percent: Percent = Field(description="one of percents")
    precision: Literal["bfloat16", "float32"] = Field(description="of the restored held-out images")


class TrainerSettings(Group):
    """Arguments of `pytorch_lightning.Trainer`. Further arguments are checked against its signature."""

    model_config = ConfigDict(extra="allow")

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"]
    devices: Any = Field(description="number of devices, -1 for all, or a list of indices")
    strategy: str
    num_nodes: Count
    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed", "bf16-true", "64-true"]


class LoggerSettings(Group):
    """The records of a run beside its own files. `mode` to `tags` are those of the W&B run."""

    mode: Literal["auto", "online", "offline", "disabled"] = "disabled"
    project: str = "faig_lab"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = Field(default_factory=list)
    csv: bool = Field(False, description="write csv/metrics.csv, Lightning's CSV logger")
    tensorboard: bool = Field(False, description="write tensorboard/, Lightning's TensorBoard logger")


class ExportSettings(Group):
    """The file that task=export writes."""

    file: str | None = Field(
        default=None, description="file to write: .pt our format, .pth the authors' format, .safetensors, .npz a patch"
    )
    strengths: dict[str, float] = Field(default_factory=dict, description="degradation to λ of its discovered filters")
    method: str | None = Field(default=None, description="method whose filters are set; null = the run's method")
    percent: Percent | None = Field(default=None, description="percent of filters; null = the run's headline percent")


class CompareSettings(Group):
    """Settings of task=compare."""

    reference: str = Field(default="faig", description="method that all others are compared with, run by run")


class PruneSettings(Group):
    """Conditions of task=store: it removes the networks that meet all conditions, and none without a condition."""

    unused: bool = Field(default=False, description="no run below `runs` has these weights")
    older_than: float | None = Field(default=None, ge=0, description="days since the last use")
    damaged: bool = Field(default=False, description="cannot be read")
    keep: list[str] = Field(
        default_factory=list, description="names (with * and ?) that stay; alone: remove all others"
    )
    runs: str | None = Field(default=None, description="folder of the runs; null = the folder above the store")
    delete: bool = Field(default=False, description="false: only print which networks would be removed")


class Settings(Group):
    """The whole configuration of a run."""

    name: FileName = Field(description="names the output folder")
    task: Literal["study", "analyse", "export", "compare", "store", "inspect"] = Field(
        description="a whole study, work on finished runs, or a look at the store or at weights files"
    )
    run: str | None = Field(description="task=analyse, task=export: the folder of the finished run")
    export: ExportSettings = Field(
        default_factory=ExportSettings, description="task=export; runs of earlier versions lack this group"
    )
    runs: str | list[str] | None = Field(default=None, description="task=compare: folders of runs or sweeps, * allowed")
    compare: CompareSettings = Field(default_factory=CompareSettings)
    prune: PruneSettings = Field(default_factory=PruneSettings)
    file: str | None = Field(default=None, description="task=inspect: weights file to describe")
    other: str | None = Field(default=None, description="task=inspect: second weights file, to compare with the first")
    resume: str | None = Field(None, description="folder of an interrupted run to continue")
    objective: str | None = Field(None, description="key of metrics.json that a sweep ranks its jobs by")
    seed: int = Field(ge=0, lt=2**32, description="everything random derives from it")
    store: str = Field(min_length=1, description="folder of trained networks")
    traceback: bool
    trust: bool = Field(
        default=False, description="files of a folder given by run=, resume= or sweep= may name any code"
    )
    baseline: GivenWeights
    target: TargetSettings
    data: Node
    degradation: DegradationSettings
    network: Node
    training: TrainingSettings
    attribution: AttributionSettings
    analysis: AnalysisSettings
    trainer: TrainerSettings
    logger: LoggerSettings
