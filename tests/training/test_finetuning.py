"""Training of chosen weights: frozen weights keep their bits, groups take turns, whatever the optimizer does."""

from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from training_case import KillAt, Killed, Watch, bits, frozen_bits

from faig_lab.data import applied, degrade
from faig_lab.filters import FilterLayout, evaluate
from faig_lab.training import Loop, Turns, fit_chosen, planted_groups, with_all_parts
from faig_lab.training import module as training_module
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
    tiny.optimizer = OPTIMIZERS[optimizer]
    module = tiny.module()
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
    trained = fit_chosen(module, chosen, tiny.patches(), loop=loop_of(tiny, **trainer), callbacks=[watch])
    return start, watch, trained


@pytest.mark.parametrize(("precision", "channels_last"), [("32-true", False), ("bf16-mixed", True)])
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
        fit_chosen(module, {"body.9.weight": torch.ones(1, dtype=torch.bool)}, tiny.patches(), loop=loop_of(tiny))


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


SETS = {"blur": torch.tensor([0, 5, 13, 40]), "noise": torch.tensor([1, 6, 20, 130])}
STEPS = 2


def groups_of(network, rate=1.0, drift=1.0):
    layout = FilterLayout.of(network)
    return planted_groups(network, {name: layout.mask(filters) for name, filters in SETS.items()}, rate, drift)


def turns_of(tiny, first=0, **rates):
    network = tiny.network()
    return Turns(groups_of(network, **rates), network.state_dict(), STEPS, first=first)


def train(tiny, turns, *callbacks, **options):
    watch = Watch()
    return watch, tiny.fit(callbacks=[turns, watch, *callbacks], **options)


def test_every_entry_belongs_to_one_group(tiny):
    network = tiny.network()
    groups = groups_of(network)
    assert [group.input for group in groups] == ["blur", "noise", "clean"]
    for name, parameter in network.named_parameters():
        owners = sum(group.chosen[name].expand_as(parameter).int() for group in groups)
        assert torch.equal(owners, torch.ones_like(owners))
    layout = FilterLayout.of(network)
    for group in groups[:2]:
        chosen = layout.gather({n: group.chosen[n].expand_as(p) for n, p in network.named_parameters()})
        assert torch.equal(torch.nonzero(chosen).flatten(), SETS[group.input])
        assert not any(mask.any() for name, mask in group.chosen.items() if name.endswith("bias"))


def test_groups_take_turns_of_some_steps(tiny):
    turns = turns_of(tiny)
    inputs = [turns.group_at(step).input for step in range(8)]
    assert inputs == ["blur", "blur", "noise", "noise", "clean", "clean", "blur", "blur"]
    late = turns_of(tiny, first=3)
    assert [late.group_at(step).input for step in range(8)] == ["clean"] * 3 + inputs[:4] + ["blur"]


@pytest.mark.parametrize(("precision", "first"), [("32-true", 0), ("32-true", 3), ("bf16-mixed", 0)])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_in_a_turn_only_its_group_moves(tiny, optimizer, precision, first):
    """Bit for bit, whatever momentum the others have from their own turns, and whatever decays."""
    tiny.precision, tiny.steps = precision, 9
    tiny.optimizer = OPTIMIZERS[optimizer]
    start = {name: value.clone() for name, value in tiny.network().state_dict().items()}
    turns = turns_of(tiny, first)
    watch, trained = train(tiny, turns)
    assert len(watch.states) == tiny.steps
    for step, (before, after) in enumerate(zip([start, *watch.states], watch.states, strict=False)):
        chosen = turns.group_at(step).chosen
        assert frozen_bits(after, chosen) == frozen_bits(before, chosen), step
        moved = sum(int((after[name] != before[name]).sum()) for name in after)
        assert moved > 0.25 * sum(int(mask.expand_as(start[name]).sum()) for name, mask in chosen.items())
    layout = FilterLayout.of(tiny.network())
    change = layout.gather({name: (trained.state[name] - start[name]).abs() for name in start})
    assert (change > 0).all() if first == 0 else (change > 0).float().mean() > 0.99  # a dead filter needs luck
    assert all(not torch.equal(trained.state[name], start[name]) for name in start)  # biases as well


def recorded(monkeypatch, module, name, record):
    """Record what a function of the training module is called with."""
    whole = getattr(module, name)

    def function(*given):
        result = whole(*given)
        record(given, result)
        return result

    monkeypatch.setattr(module, name, function)


def test_a_set_sees_its_own_input_by_its_probability_and_all_others_evenly(tiny, monkeypatch):
    seen = []
    recorded(monkeypatch, training_module, "degrade", lambda given, _: seen.append((applied(*given), given[1].margin)))
    tiny.steps, tiny.batch_size = 6, 64
    parts = tiny.degradation.parts
    tiny.degradation = replace(tiny.degradation, parts=parts | {"noise": replace(parts["noise"], probability=1.0)})
    train(tiny, turns_of(tiny))
    counts = [Counter("+".join(sorted(name)) for name in names) for names, _ in seen]
    for blur in counts[:2]:
        assert set(blur) == {"blur", "noise", ""}
        assert 22 <= blur["blur"] <= 42  # of 64, by half
        assert 6 <= blur["noise"] <= 26  # and a quarter each
    assert counts[2:4] == [{"noise": 64}] * 2
    assert counts[4:] == [{"": 64}] * 2
    assert {margin for _, margin in seen} == {tiny.degradation.margin}


def test_a_set_learns_to_leave_other_inputs_as_they_were_without_it(tiny):
    """Compared with HR on its own input, else with the output of the network with the set at its start."""
    compared = []

    class Loss(torch.nn.L1Loss):
        def forward(self, sr, hr):
            compared.append((sr.detach().clone(), hr.clone()))
            return super().forward(sr, hr)

    class Inputs(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            arguments = (batch, pl_module.degradation, pl_module.seed, pl_module.stream, pl_module.clean)
            batches.append((applied(*arguments), *degrade(*arguments)))

    batches = []
    tiny.loss, tiny.steps, tiny.batch_size, tiny.validate_every = Loss(), 8, 8, 100
    network = tiny.network()
    start = {name: value.clone() for name, value in network.state_dict().items()}
    watch, _ = train(tiny, turns := turns_of(tiny), Inputs())
    moved = 0
    for step, ((names, lr, hr), (_, target)) in enumerate(zip(batches, compared, strict=True)):
        before = watch.states[step - 1] if step else start
        group = turns.group_at(step)
        without = {name: torch.where(group.chosen[name], start[name], value) for name, value in before.items()}
        reference = evaluate(network, without, lr).detach()
        for place, name in enumerate(names):
            own = group.input == "clean" or name == {group.input}
            torch.testing.assert_close(target[place], hr[place] if own else reference[place], rtol=1e-5, atol=1e-6)
            moved += not own and not torch.equal(reference[place], evaluate(network, before, lr)[place])
    assert moved > 0


def test_the_rates_scale_the_steps_of_plain_gradient_descent(tiny):
    """One step each: the change is the rate times that of a training at rate 1 from the same weights."""
    tiny.optimizer = torch.optim.SGD
    tiny.steps = 1
    start = tiny.network().state_dict()
    plain, fast = (train(tiny, turns_of(tiny, rate=rate))[0].states[0] for rate in (1.0, 3.0))
    for name, value in start.items():
        torch.testing.assert_close(fast[name] - value, 3 * (plain[name] - value), rtol=1e-3, atol=1e-7)


def test_the_schedule_goes_on_whatever_the_rates(tiny):
    tiny.steps, tiny.validate_every = 6, 1
    rates = [[row["learning_rate"] for row in train(tiny, turns)[1].history] for turns in (turns_of(tiny, rate=7.0),)]
    rates.append([row["learning_rate"] for row in tiny.fit().history])
    assert rates[0] == pytest.approx(rates[1], rel=1e-12)


def test_a_set_has_no_trace_of_other_inputs_in_its_moments(tiny):
    """Before its first turn a group's moments are zero."""
    tiny.steps = STEPS
    watch, _ = train(tiny, turns := turns_of(tiny))
    memory = {id(parameter): state for parameter, state in watch.optimizer.state.items()}
    module_parameters = [parameter for group in watch.optimizer.param_groups for parameter in group["params"]]
    names = [name for name, _ in tiny.network().named_parameters()]
    for name, parameter in zip(names, module_parameters, strict=True):
        mask = turns.groups[0].chosen[name].expand_as(parameter)
        assert not memory[id(parameter)]["exp_avg"][~mask].any()
        assert memory[id(parameter)]["exp_avg"][mask].all()


@pytest.mark.parametrize("kill", [1, 3, 4, 6])
def test_a_killed_training_goes_on_to_the_same_bits(tiny, tmp_path, kill):
    tiny.steps, tiny.checkpoint_every = 7, 1
    whole = train(tiny, turns_of(tiny, rate=2.0, drift=0.5))[1]
    with pytest.raises(Killed):
        train(tiny, turns_of(tiny, rate=2.0, drift=0.5), KillAt(kill), checkpoint=tmp_path)
    trained = train(tiny, turns_of(tiny, rate=2.0, drift=0.5), checkpoint=tmp_path)[1]
    assert all(torch.equal(trained.state[name], value) for name, value in whole.state.items())
    assert trained.history == whole.history


def test_with_all_parts_no_sample_lacks_a_part_and_images_are_degraded_alike(tiny):
    degradation = tiny.degradation
    always = with_all_parts(degradation)
    rngs = [np.random.default_rng(seed) for seed in range(20)]
    assert {always.draw(rng) for rng in rngs} == {frozenset(degradation.parts)}
    assert len({degradation.draw(rng) for rng in rngs}) > 1
    margin = degradation.margin
    hr = torch.rand(1, 3, 16 + 2 * margin, 16 + 2 * margin)
    names = [frozenset(degradation.parts)]
    one, other = (kind.apply(hr, names, [np.random.default_rng(0)]) for kind in (degradation, always))
    assert torch.equal(one, other)
    assert (always.margin, always.scale) == (margin, degradation.scale)
