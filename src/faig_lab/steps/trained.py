"""A trained network: found in the store, or trained and put there."""

import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faig_lab.analysis.rivals import Node, Pair, Rivals
from faig_lab.attribution import Attribution
from faig_lab.build import determinants, make_loop, make_module, make_network, make_turns, snapshots, training_keys
from faig_lab.config import Settings
from faig_lab.config.keys import with_keys
from faig_lab.data import Degradation, PatchDataset, StudyData
from faig_lab.networks import State
from faig_lab.steps.provenance import describe_weights
from faig_lab.training import Row, Trained, entries_of_other_versions, open_entry

if TYPE_CHECKING:
    from faig_lab.training import SRModule

log = logging.getLogger(__name__)


def train_once(
    settings: Settings,
    name: str,
    data: StudyData,
    degradation: Degradation,
    start: State | None,
    then: Callable[[State], Attribution] | None = None,
    on_row: Callable[[Row], None] | None = None,
    label: str | None = None,
) -> Trained:
    """Train a network, unless the store has it.

    Args:
        settings: the run's.
        name: "baseline" or "target".
        data: photographs to train on; the record is measured on its probe.
        degradation: what the target's samples suffer.
        start: weights that training starts from, None for fresh ones.
        then: called with the weights at the end of a training, if there is one.
        on_row: told every row of the record, also of one that is found.
        label: what the log calls the training; `name` if None.
    """
    label = label or name
    needs = determinants(settings, name, data, start)
    kind = f"{type(make_network(settings)).__name__}-{name}"
    store = Path(settings.store).expanduser()
    with open_entry(store, kind, needs) as entry:
        if entry.exists:
            log.info("%s: already trained, %s", label, entry.folder)
            trained = entry.load(make_network(settings))
            if on_row is not None:
                for row in trained.history:
                    on_row(row)
            return trained
        for folder in entries_of_other_versions(store, kind, needs):
            _offer(folder, label, name)
        # Here, since Lightning takes over a second to import, and a network of the store needs none.
        from faig_lab.attribution.callback import AttributionCallback
        from faig_lab.training import fit

        turns = make_turns(settings, start) if name == "target" and start is not None else None
        scoring = AttributionCallback(then) if then is not None else None
        with with_keys(training_keys(name)):
            patches = PatchDataset(
                data.train, settings.training.patch_size, degradation.margin, seed=settings.seed, stream=name
            )
            return fit(
                make_module(settings, name, degradation, start),
                patches,
                data.probe,
                loop=make_loop(settings),
                publish=lambda trained: entry.publish(
                    trained, describe_weights(settings, name, trained) | {"determinants": needs}
                ),
                callbacks=[callback for callback in (turns, scoring) if callback is not None],
                on_row=on_row,
                name=label,
                checkpoint=entry.partial,
                snapshots=snapshots(settings, name),
            )


def _offer(folder: Path, label: str, name: str) -> None:
    """Tell the user of a trained network that another version of faig_lab left in the store."""
    weights = shlex.quote(f"{name}.weights={folder / 'weights.pt'}")
    use = weights if label == name else "see The store in docs/run_folder.md"
    log.warning(
        "%s: %s is the same network, trained by another version of faig_lab, which may give other numbers. "
        "It is trained again; to use the one that is there: %s",
        label,
        folder,
        use,
    )


def make_rivals(settings: Settings, data: StudyData, degradation: Degradation) -> Rivals | None:
    """How other networks are trained like the run's; None without photographs to train on."""
    if not data.train:
        return None

    def train(network: Node | None, seed: int) -> Pair:
        own = rival_settings(settings, network, seed)
        module = make_network(own).eval()
        label = f"{type(module).__name__}, seed {seed}"
        baseline = train_once(own, "baseline", data, degradation, None, label=f"{label}, baseline").state
        target = train_once(own, "target", data, degradation, baseline, label=f"{label}, target").state
        return Pair(module, baseline, target)

    def seconds(networks: Sequence[Node | None], steps: int) -> list[float]:
        from faig_lab.training import step_seconds

        makers = [partial(_timed, rival_settings(settings, node, settings.seed), degradation) for node in networks]
        size = settings.training.patch_size
        with with_keys(training_keys("target")):
            patches = PatchDataset(data.train, size, degradation.margin, seed=settings.seed, stream="target")
            return step_seconds(makers, patches, loop=make_loop(settings), steps=steps)

    def target(baseline: State, seed: int) -> State:
        own = rival_settings(settings, None, seed)
        return train_once(own, "target", data, degradation, baseline, label=f"target, seed {seed}").state

    return Rivals(train, seconds, target)


def rival_settings(settings: Settings, network: Node | None, seed: int) -> Settings:
    """The settings with another network and seed, and nothing given; scale and degradations stay the run's."""
    node: dict[str, Any] = dict(network or settings.network) | {"scale": settings.network["scale"]}
    if "degradations" in node:
        node["degradations"] = list(settings.degradation.parts)
    changes = {"network": node, "seed": seed}
    untrained = {name: getattr(settings, name).model_copy(update={"weights": None}) for name in ("baseline", "target")}
    return settings.model_copy(update=changes | untrained)


def _timed(settings: Settings, degradation: Degradation, steps: int) -> "SRModule":
    """A target that is trained for a few steps only."""
    module = make_module(settings, "target", degradation, None)
    module.schedule = replace(module.schedule, iterations=steps, restart_every=steps)
    return module
