"""Averages and records follow the module to its device; "meta" stands for a GPU."""

import pytest
import pytorch_lightning as pl
import torch
from torch.optim.swa_utils import AveragedModel

from faig_lab.training.callbacks import ExponentialAverage, History


class Plain(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 3)


def test_the_average_lies_where_the_module_lies():
    """Lightning makes it in `setup`, before the module is moved."""
    module, average = Plain(), ExponentialAverage(0.9)
    average._average_model = AveragedModel(module)
    module.to("meta")
    average.on_train_start(None, module)
    assert {value.device.type for value in average._averages} == {"meta"}
    assert average._average_model.n_averaged.device.type == "meta"
    assert [v.shape for v in average._averages] == [v.shape for v in module.parameters()]


@pytest.mark.parametrize("resumed", [True, False])
def test_losses_of_a_checkpoint_and_new_ones_are_saved_together(resumed):
    """Those of a checkpoint were read to the CPU, the new ones are on the GPU."""
    history = History("target")
    losses = torch.tensor([1.0, 2.0]) if resumed else None
    history.load_state_dict({"rows": [], "losses": losses})
    history._losses.append(torch.zeros((), device="meta"))
    saved = history.state_dict()["losses"]
    assert saved.device.type == "meta"
    assert len(saved) == (3 if resumed else 1)


def test_the_values_of_the_losses_are_kept():
    history = History("target")
    history.load_state_dict({"rows": [], "losses": torch.tensor([1.0, 2.0])})
    history._losses.append(torch.tensor(3.0))
    assert history.state_dict()["losses"].tolist() == [1.0, 2.0, 3.0]
