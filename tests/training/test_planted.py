"""Turns: only the group whose turn it is moves, on its own input, at its own rate; at the end everything has moved."""

from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from training_case import KillAt, Killed, Watch, frozen_bits

from faig_lab.data import applied, degrade
from faig_lab.networks import FilterLayout, evaluate
from faig_lab.training import Turns, planted_groups
from faig_lab.training import module as training_module

OPTIMIZERS = {
    "adam": partial(torch.optim.Adam, betas=(0.9, 0.99)),
    "adamw": partial(torch.optim.AdamW, weight_decay=0.5),
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=0.1),
}
SETS = {"blur": torch.tensor([0, 5, 13, 40]), "noise": torch.tensor([1, 6, 20, 130])}
STEPS = 2


def groups_of(network, rate=1.0, drift=1.0):
    layout = FilterLayout.of(network)
    return planted_groups(network, {name: layout.mask(filters) for name, filters in SETS.items()}, rate, drift)


def turns_of(tiny, first=0, **rates):
    network = tiny.network()
    return Turns(groups_of(network, **rates), network.state_dict(), STEPS, first)


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
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_in_a_turn_only_its_group_moves(tiny, optimizer, precision, first, monkeypatch):
    """Bit for bit, whatever momentum the others have from their own turns, and whatever decays."""
    tiny.precision, tiny.steps = precision, 9
    made = tiny.module

    def module():
        result = made()
        result.make_optimizer = OPTIMIZERS[optimizer]
        return result

    monkeypatch.setattr(tiny, "module", module)
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
            what = (batch, pl_module.degradation, pl_module.seed, pl_module.stream, pl_module.clean)
            batches.append((applied(*what), *degrade(*what)))

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


def test_the_rates_scale_the_steps_of_plain_gradient_descent(tiny, monkeypatch):
    """One step each: the change is the rate times that of a training at rate 1 from the same weights."""
    made = tiny.module

    def module():
        result = made()
        result.make_optimizer = torch.optim.SGD
        return result

    monkeypatch.setattr(tiny, "module", module)
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
