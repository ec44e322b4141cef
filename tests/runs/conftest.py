"""A stand-in for what the jobs of a sweep compute."""

import json

import pytest
from tiny_case import replace_study


class Pipeline:
    """Leaves a finished run whose isolation is a function of its settings.

    `acts` has, by the name of the job's folder, an error to raise or a function to call before. `ran` has the numbers
    of the jobs that came (the name of a folder that is no job), and `seen` what W&B is told of each.
    """

    def __init__(self):
        self.acts, self.ran, self.seen = {}, [], []
        self.isolation = lambda cfg: 0.1 * cfg.seed

    def run(self, cfg, folder):
        self.ran.append(int(folder.name) if folder.name.isdecimal() else folder.name)
        self.seen.append((folder.name, cfg.logger.group, list(cfg.logger.tags)))
        act = self.acts.get(folder.name)
        if isinstance(act, BaseException):
            raise act
        if act is not None:
            act()
        (folder / "config.yaml").write_text("{}")
        (folder / "metrics.json").write_text(json.dumps({"isolation": self.isolation(cfg), "psnr/target/blur": 30.0}))
        (folder / "status.json").write_text(json.dumps({"state": "done"}))


@pytest.fixture
def pipeline(monkeypatch):
    stand_in = Pipeline()
    replace_study(monkeypatch, stand_in.run)
    return stand_in
