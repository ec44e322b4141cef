"""A trained network: loaded from the store, or trained and published there."""

import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from faig_lab.attribution import Attribution
from faig_lab.cli.build import determinants, make_loop, make_module, make_network, make_turns, snapshots, training_keys
from faig_lab.cli.memory_format import with_format
from faig_lab.cli.provenance import describe_weights
from faig_lab.config import Settings
from faig_lab.config.messages import with_keys
from faig_lab.data import Degradation, PatchDataset, StudyData
from faig_lab.filters import State
from faig_lab.runs.store import entries_of_other_versions, open_entry
from faig_lab.studies.context import NetworkTrainer, Node, Pair
from faig_lab.training import Chosen, Retraining, Row, Trained, one_fall

if TYPE_CHECKING:
    from faig_lab.training import SRModule

log = logging.getLogger(__name__)


def train_once(
    settings: Settings,
    name: str,
    data: StudyData,
    degradation: Degradation,
    *,
    start: State | None = None,
    then: Callable[[State], Attribution] | None = None,
    on_row: Callable[[Row], None] | None = None,
    label: str | None = None,
) -> Trained:
    """Load a network from the store, or train it.

    Args:
        settings: the settings of the run.
        name: "baseline" or "target".
        data: photographs to train on. The training record is measured on the probe.
        degradation: the degradation of the target's samples.
        start: weights that training starts from; None for fresh weights.
        then: function that is called with the weights at the end of a training.
        on_row: function that is called with every row of the training record, also for a network from the store.
        label: name of the training in the log; `name` if None.
    """
    label = label or name
    needs = determinants(settings, name, data, start)
    entry_name = network_kind(settings, name)
    store = Path(settings.store).expanduser()
    with open_entry(store, entry_name, needs) as entry:
        if entry.exists:
            log.info("%s: already trained, %s", label, entry.folder)
            trained = entry.load(make_network(settings))
            if on_row is not None:
                for row in trained.history:
                    on_row(row)
            return trained
        for folder in entries_of_other_versions(store, entry_name, needs):
            _offer(folder, label, name)
        # Imported here: Lightning takes over a second to import, and a network from the store does not need it.
        from faig_lab.attribution.callback import AttributionCallback
        from faig_lab.training import fit

        turns = make_turns(settings, start) if name == "target" and start is not None else None
        scoring = AttributionCallback(then) if then is not None else None
        with with_keys(training_keys(name)):
            patches = PatchDataset(
                data.train, settings.training.patch_size, degradation.margin, seed=settings.seed, stream=name
            )
            return fit(
                make_module(with_format(settings), name, degradation, start),
                patches,
                data.probe,
                loop=make_loop(settings, data.train, name),
                publish=lambda trained: entry.publish(
                    trained, describe_weights(settings, name, trained) | {"determinants": needs}
                ),
                callbacks=[callback for callback in (turns, scoring) if callback is not None],
                on_row=on_row,
                name=label,
                checkpoint=entry.partial,
                snapshots=snapshots(settings, name),
            )


def network_kind(settings: Settings, name: str) -> str:
    """Return the name of a network in the store: its class, and "baseline" or "target"."""
    return f"{type(make_network(settings)).__name__}-{name}"


def _offer(folder: Path, label: str, name: str) -> None:
    """Log that the store has the same network from another version of faig_lab."""
    weights = shlex.quote(f"{name}.weights={folder / 'weights.pt'}")
    use = weights if label == name else "see The store in docs/run_folder.md"
    log.warning(
        "%s: %s is the same network, trained by another version of faig_lab, which may give other numbers. "
        "The network is trained again. To use the stored network: %s",
        label,
        folder,
        use,
    )


def make_network_trainer(settings: Settings, data: StudyData, degradation: Degradation) -> NetworkTrainer | None:
    """Return the training of other networks, like that of the run; None without photographs to train on."""
    if not data.train:
        return None

    def train(network: Node | None, seed: int) -> Pair:
        other = settings_of_other(settings, network, seed)
        module = make_network(other).eval()
        label = f"{type(module).__name__}, seed {seed}"
        baseline = train_once(other, "baseline", data, degradation, label=f"{label}, baseline").state
        target = train_once(other, "target", data, degradation, start=baseline, label=f"{label}, target").state
        return Pair(module, baseline, target)

    def seconds(networks: Sequence[Node | None], steps: int) -> list[float]:
        from faig_lab.training import step_seconds

        others = [settings_of_other(settings, node, settings.seed) for node in networks]
        makers = [partial(timed_module, other, degradation) for other in others]
        size = settings.training.patch_size
        with with_keys(training_keys("target")):
            patches = PatchDataset(data.train, size, degradation.margin, seed=settings.seed, stream="target")
            return step_seconds(makers, patches, loop=make_loop(settings, data.train), steps=steps)

    def target(
        baseline: State, seed: int, parts: Sequence[str] | None = None, *, iterations: int | None = None
    ) -> State:
        other = settings_of_target(settings_of_other(settings, None, seed), parts, iterations)
        applied = replace(degradation, parts={name: degradation.parts[name] for name in other.degradation.parts})
        label = f"target, seed {seed}" if parts is None else f"target of {'+'.join(parts)}, seed {seed}"
        return train_once(other, "target", data, applied, start=baseline, label=label).state

    return NetworkTrainer(train, seconds, target)


def settings_of_other(settings: Settings, network: Node | None, seed: int) -> Settings:
    """Return the settings with another network and seed, without given weights. Scale and degradations stay."""
    node: dict[str, Any] = dict(network or settings.network) | {"scale": settings.network["scale"]}
    if "degradations" in node:
        node["degradations"] = list(settings.degradation.parts)
    changes = {"network": node, "seed": seed}
    untrained = {name: getattr(settings, name).model_copy(update={"weights": None}) for name in ("baseline", "target")}
    return settings.model_copy(update=changes | untrained)


def settings_of_target(settings: Settings, parts: Sequence[str] | None, iterations: int | None) -> Settings:
    """Return the settings of a target that learns some of the degradations, or for another number of iterations.

    Such a target is not planted, and its training saves no states on the way.

    Args:
        settings: the settings of a run.
        parts: names of degradations; None is all.
        iterations: of the training, with one fall of the learning rate after the target's warm-up or a tenth of the
            steps, whichever is shorter; None is the run's schedule.
    """
    changes: dict[str, Any] = {}
    if parts is not None:
        degradation = settings.degradation
        chosen = {name: degradation.parts[name] for name in parts}
        changes = {
            "degradation": degradation.model_copy(update={"parts": chosen}),
            "target": settings.target.model_copy(update={"planted": None}),
            "attribution": settings.attribution.model_copy(update={"path": "straight"}),
        }
    if iterations is not None:
        own = settings.training.target
        target = own.model_copy(update=one_fall(iterations, own.warmup))
        changes["training"] = settings.training.model_copy(update={"target": target})
    return settings.model_copy(update=changes)


def timed_module(settings: Settings, degradation: Degradation, steps: int) -> "SRModule":
    """Return the module of a target that is trained for a few steps."""
    module = make_module(with_format(settings), "target", degradation, None)
    module.schedule = replace(module.schedule, iterations=steps, restart_every=steps)
    return module


def make_retraining(settings: Settings, data: StudyData, degradation: Degradation) -> Retraining | None:
    """Return the training of chosen weights, like that of the target; None without photographs to train on."""
    if not data.train:
        return None

    def train(
        start: State,
        chosen: Chosen,
        parts: Sequence[str],
        iterations: int,
        rate: float = 1.0,
        *,
        always: bool = False,
    ) -> dict[str, Tensor]:
        from faig_lab.training import fit_chosen, with_all_parts

        applied = replace(degradation, parts={name: degradation.parts[name] for name in parts})
        applied = with_all_parts(applied) if always else applied
        module = make_module(with_format(settings), "target", applied, start)
        own = module.schedule
        steps = one_fall(iterations, own.warmup)
        module.schedule = replace(own, learning_rate=rate * own.learning_rate, **steps)
        with with_keys(training_keys("target")):
            size, seed = settings.training.patch_size, settings.seed
            patches = PatchDataset(data.train, size, applied.margin, seed=seed, stream="target")
            return fit_chosen(module, chosen, patches, loop=make_loop(settings, data.train)).state

    return Retraining(train, lambda seed: make_network(settings.model_copy(update={"seed": seed})).state_dict())
