"""Frozen means frozen: the same bits after every step and in the average, whatever the optimizer."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from training_case import Watch, bits, frozen_bits

from faig_lab.networks import FilterLayout
from faig_lab.training import Loop, fit_chosen
from faig_lab.training.finetuning import Freezing

OPTIMIZERS = {
    "adam": partial(torch.optim.Adam, betas=(0.9, 0.99)),
    "adam, coupled weight decay": partial(torch.optim.Adam, weight_decay=0.1),
    "adamw": partial(torch.optim.AdamW, weight_decay=0.5),
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=0.1),
}
FILTERS = torch.tensor([0, 5, 13, 40, 130])


def module_of(tiny, optimizer="adam"):
    """The tiny module, with negative zeros among its weights: their bits are the first to get lost."""
    module = tiny.module()
    module.make_optimizer = OPTIMIZERS[optimizer]
    generator = torch.Generator().manual_seed(0)
    for parameter in module.network.parameters():
        parameter.data.masked_fill_(torch.rand(parameter.shape, generator=generator) < 0.3, -0.0)
    return module


def loop_of(tiny, **trainer):
    return Loop(
        tiny.batch_size, tiny.decay, 2, 0, {"accelerator": "cpu", "devices": 1, "precision": tiny.precision, **trainer}
    )


def run(tiny, module, chosen, **trainer):
    start = {n: v.detach().clone() for n, v in module.network.state_dict().items()}
    watch = Watch()
    trained = fit_chosen(module, chosen, tiny.patches(), loop_of(tiny, **trainer), [watch])
    return start, watch, trained


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_frozen_entries_keep_their_bits_after_every_step_and_in_the_average(tiny, optimizer, precision, channels_last):
    tiny.precision, tiny.channels_last = precision, channels_last
    tiny.steps, tiny.decay = 12, 0.999  # beyond the warm-up, where averaging turns −0 into 0
    module = module_of(tiny, optimizer)
    chosen = FilterLayout.of(module.network).mask(FILTERS)
    start, watch, trained = run(tiny, module, chosen)
    assert len(watch.states) == tiny.steps
    for state in (*watch.states, trained.state):
        assert frozen_bits(state, chosen) == frozen_bits(start, chosen)
        for name, mask in chosen.items():
            moved = (state[name] != start[name]).flatten(2).any(2)
            assert torch.equal(moved, mask.flatten(1).expand_as(moved))
    assert all(value.dtype == torch.float32 for value in trained.state.values())


def test_what_is_frozen_leaves_no_trace_in_the_moments(tiny):
    module = module_of(tiny)
    chosen = FilterLayout.of(module.network).mask(FILTERS)
    _, watch, _ = run(tiny, module, chosen)
    touched = {name for name, mask in chosen.items() if mask.any()}
    names = {id(parameter): name for name, parameter in module.network.named_parameters()}
    assert {names[id(parameter)] for parameter in watch.optimizer.state} == touched
    for parameter, memory in watch.optimizer.state.items():
        mask = chosen[names[id(parameter)]].expand_as(parameter)
        assert not memory["exp_avg"][~mask].any()
        assert memory["exp_avg"][mask].any()


def test_clipping_looks_at_the_chosen_gradients_only(tiny):
    module = module_of(tiny, "sgd")
    module.make_optimizer = torch.optim.SGD
    module.schedule = module.schedule.__class__(1, 1.0, 1)
    chosen = FilterLayout.of(module.network).mask(FILTERS[:1])
    start, watch, _ = run(tiny, module, chosen, gradient_clip_val=1e-4)
    step = torch.cat([(watch.states[0][n] - start[n]).flatten() for n in start]).norm()
    assert float(step) == pytest.approx(1e-4, rel=1e-2)


def test_with_everything_chosen_it_is_plain_training(tiny):
    tiny.decay = 0.5
    module = tiny.module()
    everything = {name: torch.ones((), dtype=torch.bool) for name, _ in module.network.named_parameters()}
    _, _, trained = run(tiny, module, everything)
    assert bits(trained.state) == bits(tiny.fit().state)


def test_with_nothing_chosen_it_is_the_start(tiny):
    module = module_of(tiny)
    nothing = FilterLayout.of(module.network).mask([])
    start, watch, trained = run(tiny, module, nothing)
    assert bits(trained.state) == bits(start)
    assert watch.states == []


def test_whatever_an_optimizer_does_to_what_has_no_gradient_is_undone(tiny):
    class Noisy(torch.optim.SGD):
        def step(self, closure=None):
            loss = super().step(closure)
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.data.add_(torch.rand_like(parameter))
            return loss

    module = module_of(tiny)
    module.make_optimizer = Noisy
    chosen = FilterLayout.of(module.network).mask(FILTERS)
    start, watch, trained = run(tiny, module, chosen)
    for state in (*watch.states, trained.state):
        assert frozen_bits(state, chosen) == frozen_bits(start, chosen)


def test_infinite_gradients_of_frozen_entries_do_not_become_nan():
    network = nn.Linear(2, 2, bias=False)
    parameter = nn.Parameter(torch.ones(2, 2))
    network.weight = parameter
    freezing = Freezing(network, {"weight": torch.tensor([[True], [False]])})
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.optimizers = [torch.optim.SGD([parameter], lr=1.0)]
    freezing.on_train_start(trainer, None)
    parameter.grad = torch.tensor([[1.0, 1.0], [torch.inf, torch.nan]])
    freezing.on_before_optimizer_step(trainer, None, trainer.optimizers[0])
    assert torch.equal(parameter.grad, torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    trainer.optimizers[0].step()
    assert torch.equal(parameter.detach(), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))


def test_statistics_of_a_batch_norm_are_frozen_too(tiny):
    module = tiny.module()
    module.network.body.append(nn.BatchNorm2d(4))
    chosen = {"body.0.conv1.weight": torch.ones(4, 4, 1, 1, dtype=torch.bool)}
    start, watch, trained = run(tiny, module, chosen)
    for state in (*watch.states, trained.state):
        assert frozen_bits(state, chosen) == frozen_bits(start, chosen)
    assert bits(trained.state).keys() == bits(start).keys()
    assert trained.state["body.1.num_batches_tracked"] == 0


def test_a_name_that_the_network_does_not_have_is_an_error(tiny):
    module = tiny.module()
    with pytest.raises(KeyError, match="body\\.9\\.weight"):
        fit_chosen(module, {"body.9.weight": torch.ones(1, dtype=torch.bool)}, tiny.patches(), loop_of(tiny))


def test_the_same_seed_gives_the_same_bits(tiny):
    results = []
    for _ in range(2):
        module = module_of(tiny)
        chosen = FilterLayout.of(module.network).mask(FILTERS)
        results.append(bits(run(tiny, module, chosen)[2].state))
    assert results[0] == results[1]


def test_a_tied_weight_is_trained_under_all_its_names_and_frozen_outside_of_what_is_chosen(tiny):
    module = tiny.module()
    module.network.body[0].conv2.weight = module.network.body[0].conv1.weight
    chosen = FilterLayout.of(module.network, "output_channel").mask([7])  # of the first body's convolution
    assert chosen["body.0.conv2.weight"] is chosen["body.0.conv1.weight"]
    for given in (chosen, {n: v for n, v in chosen.items() if n != "body.0.conv2.weight"}):
        start, _, trained = run(tiny, module, given)
        assert frozen_bits(trained.state, chosen) == frozen_bits(start, chosen)
        assert torch.equal(trained.state["body.0.conv2.weight"], trained.state["body.0.conv1.weight"])
        assert not torch.equal(trained.state["body.0.conv1.weight"], start["body.0.conv1.weight"])
