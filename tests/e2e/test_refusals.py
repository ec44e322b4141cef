"""Wrong settings end in one line that names the key, before anything starts."""

import re

import pytest
from tiny_case import refusal, tiny

STUDY = ["experiment=blur_noise"]
PATH = [*STUDY, "attribution.path=trajectory", "attribution.path_states=3"]
LOSS = "faig_lab.attribution"
TWO = ["experiment=one_vs_two_branch"]
RIVAL = "analysis.studies.branches.rival"
PLANTED = ["experiment=planted", "target.planted.percent=5", "target.planted.turn=2", "target.planted.drift_steps=0"]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ([*STUDY, "attribution.truth=targets"], "attribution.truth: "),
        ([*STUDY, f"attribution.loss={{_target_: {LOSS}.Charbonnier, epsilon: 0}}"], "attribution.loss.epsilon: "),
        ([*STUDY, f"attribution.loss={{_target_: {LOSS}.Charbonier}}"], "attribution.loss._target_: "),
        ([*STUDY, f"attribution.loss={{_target_: {LOSS}.AbsoluteError, eps: 1}}"], "attribution.loss.eps: "),
        ([*PATH, "attribution.rule=gauss_legendre", "attribution.points=3"], "attribution.points: 3 .*nearest: 4$"),
        ([*PATH, "attribution.rule=simpson", "attribution.points=8"], "attribution.points: 8 .*nearest: 12$"),
        ([*PATH, "attribution.rule=trapezoid", "attribution.points=7"], "attribution.points: 7 .*nearest: 8$"),
        ([*PATH, "attribution.rule=adaptive", "attribution.points=16"], "attribution.points: 16 .*nearest: 20$"),
        ([*TWO, f"++{RIVAL}.feature=3"], f"{RIVAL}.feature: unknown key"),
        ([*TWO, f"++{RIVAL}.features=0"], f"{RIVAL}.features: must be > 0, not 0"),
        ([*TWO, f"++{RIVAL}=5"], f"{RIVAL}: "),
        ([*TWO, "analysis.studies.branches.seeds=[-1]"], "analysis.studies.branches.seeds.0: "),
        ([*PLANTED, "target.planted.percent=60"], "target.planted.percent: 2 sets of "),
        ([*PLANTED, "target.planted.percent=0.001"], "target.planted.percent: 0.001 % of "),
        ([*PLANTED, "target.planted.percent=0"], "target.planted.percent: must be more than 0, not 0"),
        ([*PLANTED, "target.planted.layers=[bdy.*]"], r"target.planted.layers: bdy\.\* fits no layer; the layers are "),
        ([*PLANTED, "target.planted.turn=3"], "target.planted.turn: 3 turns of 3 steps do not fit into the 6 of "),
        ([*PLANTED, "target.planted.drift_steps=6"], "target.planted.drift_steps: 6 must be less than "),
        ([*PLANTED, "target.planted.drift_steps=3"], "target.planted.turn: 2 turns of 2 steps do not fit into the 3 "),
        ([*PLANTED, "target.planted.rate=0"], "target.planted.rate: must be more than 0, not 0"),
        ([*PLANTED, "+target.planted.drfit=1"], r"target.planted.drfit: unknown key; did you mean drift\?"),
        ([*PLANTED, "attribution.granularity=layer"], "attribution.granularity: layer, but target.planted plants "),
        ([*PLANTED, "attribution.rank_other_parameters=true"], "attribution.rank_other_parameters: must be false"),
        ([*STUDY, "analysis=planted"], "analysis.studies.planted: the target is not planted; use "),
        (["experiment=first_look", "target.weights=package:srresnet_small_tarjet.safetensors"],
         "target.weights: faig_lab ships no weights package:srresnet_small_tarjet.safetensors; choices: "),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_one_line_before_anything_starts(settings, line, tmp_path, capsys):
    small = ["training.patch_size=16", "training.target.iterations=6", "analysis.percents=[5,50]"]
    own = [*settings, *small, "analysis.headline_percent=5", f"hydra.run.dir={tmp_path / 'run'}"]
    found = refusal(capsys, *tiny(*own))
    assert re.match(line, found), found
    assert not (tmp_path / "run" / "status.json").exists()
