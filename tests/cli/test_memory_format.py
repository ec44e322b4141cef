"""The memory format of training: chosen by measured steps, kept in the store, logged. No test takes the time."""

import json
import shutil
from datetime import date
from pathlib import Path

import pytest
import torch
import yaml
from run_files import read
from tiny_case import tiny, without_report

from faig_lab.__main__ import main
from faig_lab.cli import trained
from faig_lab.cli.build import make_degradation, make_network
from faig_lab.cli.trained import (
    FILE,
    compare,
    forget_choices,
    in_turns,
    make_network_trainer,
    make_retraining,
    processor_kind,
    train_once,
    with_format,
)
from faig_lab.training import SRModule

KIND = {"processor": "Some CPU", "instructions": "AVX2", "threads": 2, "torch": "2.13"}
FAULTS = (RuntimeError, ValueError, TypeError)
FASTER, SLOWER = (0.162, 0.131), (0.036, 0.051)  # seconds in channels last and in NCHW: NCHW is faster, or slower


class Measurements:
    """Stands in for the measurement of both formats."""

    def __init__(self):
        self.seconds, self.count = SLOWER, 0

    def __call__(self, *_):
        self.count += 1
        return self.seconds


@pytest.fixture(autouse=True)
def measured(monkeypatch):
    """The measurement: on a known processor, also for trainings of a few steps."""
    forget_choices()
    measurements = Measurements()
    monkeypatch.setattr(trained, "compare", measurements)
    monkeypatch.setattr(trained, "processor_kind", lambda: dict(KIND))
    monkeypatch.setattr(trained, "WORTH_MEASURING", 3)
    return measurements


@pytest.fixture
def log(caplog):
    caplog.set_level("INFO")
    return caplog


def chosen(settings):
    """The choice of a new run: whether channels last."""
    forget_choices()
    value = with_format(settings).training.channels_last
    assert isinstance(value, bool)
    return value


def lines(log):
    return [record.getMessage() for record in log.records if "memory format" in record.getMessage()]


# The choice


@pytest.mark.parametrize(
    ("seconds", "channels_last"),
    [
        ((0.1, 0.2), True),
        ((0.1, 0.1), True),
        ((0.1, 0.0951), True),
        ((1.0, 0.95), True),
        ((0.1, 0.0949), False),
        ((0.1, 0.01), False),
    ],
)
def test_channels_last_stays_unless_nchw_is_more_than_5_percent_faster(measured, seconds, channels_last, settings_of):
    measured.seconds = seconds
    assert chosen(settings_of()) is channels_last


@pytest.mark.parametrize("value", ["true", "false"])
def test_what_the_user_says_is_not_measured(measured, log, value, settings_of):
    settings = settings_of(f"training.channels_last={value}")
    assert with_format(settings) is settings
    assert chosen(settings) is (value == "true")
    assert measured.count == 0
    assert lines(log) == []
    assert not Path(settings.store).exists()


def test_auto_is_the_default(settings_of):
    assert settings_of().training.channels_last == "auto"
    assert settings_of("training=paper").training.channels_last == "auto"


def test_a_training_of_a_few_steps_is_not_measured(measured, monkeypatch, settings_of):
    monkeypatch.setattr(trained, "WORTH_MEASURING", 4)
    measured.seconds = FASTER
    assert chosen(settings_of()) is True
    assert measured.count == 0
    assert chosen(settings_of("training.target.iterations=4")) is False


@pytest.mark.parametrize("gpu", ["torch.cuda", "torch.backends.mps"])
def test_a_gpu_trains_in_channels_last_unmeasured(measured, monkeypatch, gpu, settings_of):
    measured.seconds = FASTER
    settings = settings_of("trainer.accelerator=auto")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert chosen(settings) is False
    monkeypatch.setattr(f"{gpu}.is_available", lambda: True)
    assert chosen(settings) is True
    assert measured.count == 1


# The file


def test_the_choice_is_kept_for_later_runs_whatever_they_would_measure(tmp_path, measured, log, settings_of):
    settings = settings_of()
    measured.seconds = FASTER
    assert chosen(settings) is False
    measured.seconds = SLOWER
    assert chosen(settings) is False
    assert measured.count == 1
    (entry,) = read(tmp_path / "store" / FILE).values()
    assert entry == {
        "channels_last": False,
        "milliseconds_channels_last": 162.0,
        "milliseconds_nchw": 131.0,
        "measured": date.today().isoformat(),
        "kind": KIND | {"network": settings.network, "batch_size": 2, "patch_size": 16, "precision": "32-true"},
    }


def test_the_log_has_one_line_in_a_run(tmp_path, measured, log, settings_of):
    settings, file = settings_of(), tmp_path / "store" / FILE
    for _ in range(3):  # forecast, baseline, target
        with_format(settings)
    assert lines(log) == ["memory format: channels last, 2 threads (36.0 ms a step; NCHW 51.0 ms), measured now"]
    content = read(file)
    next(iter(content.values())).update(
        {"measured": "2026-01-31", "channels_last": False, "kind": KIND | {"threads": 1}}
    )
    file.write_text(json.dumps(content))
    with_format(settings)
    assert len(lines(log)) == 1
    chosen(settings)
    assert lines(log)[1:] == [
        "memory format: NCHW, 1 thread (51.0 ms a step; channels last 36.0 ms), measured on 2026-01-31"
    ]


@pytest.mark.parametrize(
    ("name", "value"), [("processor", "Other CPU"), ("instructions", "AVX512"), ("threads", 1), ("torch", "2.14")]
)
def test_another_processor_is_measured_too(measured, monkeypatch, name, value, settings_of):
    settings = settings_of()
    assert chosen(settings) is True
    measured.seconds = FASTER
    monkeypatch.setattr(trained, "processor_kind", lambda: KIND | {name: value})
    assert chosen(settings) is False
    monkeypatch.setattr(trained, "processor_kind", lambda: dict(KIND))
    assert chosen(settings) is True
    assert measured.count == 2


@pytest.mark.parametrize(
    ("setting", "count"),
    [
        ("network.features=5", 2),
        ("network=srcnn_style_small", 2),
        ("training.batch_size=4", 2),
        ("training.patch_size=32", 2),
        ("trainer.precision=64-true", 2),
        ("seed=1", 1),
        ("training.target.iterations=9", 1),
        ("attribution.points=3", 1),
    ],
)
def test_another_step_is_measured_too(tmp_path, measured, setting, count, settings_of):
    chosen(settings_of())
    chosen(settings_of(setting))
    assert measured.count == count
    assert len(read(tmp_path / "store" / FILE)) == count


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "\xff", '{"a": {"channels_last": "yes"}}', '{"a": {"channels_last": true}}']
)
def test_a_damaged_file_is_reported_in_a_line_and_replaced(tmp_path, measured, log, content, settings_of):
    settings, file = settings_of(), tmp_path / "store" / FILE
    file.parent.mkdir()
    file.write_bytes(content.encode("latin-1"))
    assert chosen(settings) is True
    assert measured.count == 1
    assert [record.getMessage() for record in log.records if record.levelname == "WARNING"] == [
        f"{file} is damaged; the memory format is measured again"
    ]
    assert [entry["channels_last"] for entry in read(file).values()] == [True]
    chosen(settings)
    assert measured.count == 1


def test_a_store_that_cannot_be_written_keeps_channels_last_unmeasured(tmp_path, measured, log, settings_of):
    """Two runs give the same bits: the second could not know what the first had measured."""
    measured.seconds = FASTER
    (tmp_path / "file").touch()
    assert chosen(settings_of(f"store={tmp_path / 'file' / 'store'}")) is True
    assert measured.count == 0
    (line,) = lines(log)
    assert line.startswith("memory format: channels last, not measured: ")
    assert "cannot be written" in line


def test_a_read_only_store_has_its_choice(measured, monkeypatch, settings_of):
    measured.seconds = FASTER
    settings = settings_of()
    assert chosen(settings) is False
    monkeypatch.setattr(trained, "FileLock", lambda _: pytest.fail("locked"))
    monkeypatch.setattr(trained, "write_json", lambda *_: pytest.fail("written"))
    assert chosen(settings) is False


def test_another_process_may_measure_first(tmp_path, measured, monkeypatch, settings_of):
    """While this process waits for the lock, another process writes its choice, which both then take."""
    settings, lock = settings_of(), trained.FileLock
    measured.seconds = FASTER
    chosen(settings)
    content = (tmp_path / "store" / FILE).read_bytes()
    (tmp_path / "store" / FILE).unlink()

    def waits(path):
        (tmp_path / "store" / FILE).write_bytes(content)
        return lock(path)

    monkeypatch.setattr(trained, "FileLock", waits)
    measured.seconds = SLOWER
    assert chosen(settings) is False
    assert measured.count == 1


@pytest.mark.parametrize(
    ("place", "error", "words"),
    [
        ("write_json", OSError(28, "No space left on device"), "{file} cannot be written (No space left on device)"),
        *(("compare", kind("step() needs\na closure"), "step() needs a closure") for kind in FAULTS),
    ],
)
def test_a_full_disk_and_a_measurement_that_fails_keep_channels_last(
    tmp_path, settings_of, measured, monkeypatch, log, place, error, words
):
    def fail(*_):
        raise error

    measured.seconds = FASTER
    monkeypatch.setattr(trained, place, fail)
    file = tmp_path / "store" / FILE
    assert chosen(settings_of()) is True
    assert lines(log) == [f"memory format: channels last, not measured: {words.format(file=file)}"]
    assert not file.exists()


def test_processes_of_a_group_share_a_batch(tmp_path, measured, monkeypatch, settings_of):
    monkeypatch.setattr(trained.processes, "world", lambda: 2)
    monkeypatch.setattr(trained.processes, "from_first", lambda compute: compute())
    chosen(settings_of())
    (entry,) = read(tmp_path / "store" / FILE).values()
    assert entry["kind"]["batch_size"] == 1


# Trainings


def test_two_runs_with_one_store_have_the_same_bits(tmp_path, measured, data, settings_of):
    settings = settings_of()
    degradation = make_degradation(settings)
    measured.seconds = FASTER
    first = train_once(settings, "baseline", data, degradation)
    assert first.channels_last is False
    (entry,) = (path for path in Path(settings.store).iterdir() if path.is_dir() and path.name[0] != ".")
    assert yaml.safe_load((entry / "weights.yaml").read_text())["channels_last"] is False
    assert train_once(settings, "baseline", data, degradation).channels_last is False  # as the store has it
    shutil.rmtree(entry)
    measured.seconds = SLOWER
    forget_choices()
    again = train_once(settings, "baseline", data, degradation)
    assert again.channels_last is False
    by_hand = train_once(
        settings_of(f"store={tmp_path / '2'}", "training.channels_last=false"), "baseline", data, degradation
    )
    for network in (again, by_hand):
        assert all(torch.equal(network.state[name], value) for name, value in first.state.items())
    assert measured.count == 1


def test_a_network_from_the_store_is_not_measured(tmp_path, measured, data, settings_of):
    known = settings_of("training.channels_last=true")
    train_once(known, "baseline", data, make_degradation(known))
    settings = settings_of()
    train_once(settings, "baseline", data, make_degradation(settings))
    assert measured.count == 0
    assert not (tmp_path / "store" / FILE).exists()


def test_studies_train_in_the_format_of_the_run(measured, data, monkeypatch, settings_of):
    settings = settings_of()
    measured.seconds = FASTER
    made = make_network(settings).state_dict()
    every = {name: torch.ones(value.shape, dtype=torch.bool) for name, value in made.items()}
    formats, init = [], SRModule.__init__

    def watching(module, *arguments, **named):
        formats.append(named["channels_last"])
        init(module, *arguments, **named)

    monkeypatch.setattr(SRModule, "__init__", watching)
    make_retraining(settings, data, make_degradation(settings)).train(made, every, ["blur"], 1)
    make_network_trainer(settings, data, make_degradation(settings)).step_seconds([None], 1)
    assert set(formats) == {False}


def test_a_run_logs_its_format_once_and_describes_its_weights(tmp_path, measured):
    measured.seconds = FASTER
    run = tmp_path / "run"
    settings = tiny("+experiment=blur_noise", "training.patch_size=16", "attribution.methods.random.draws=1")
    with without_report():
        assert main([*settings, f"store={tmp_path / 'store'}", f"hydra.run.dir={run}"]) == 0
    text = (run / "run.log").read_text(encoding="utf-8")
    assert text.count("memory format: NCHW, 2 threads (131.0 ms a step; channels last 162.0 ms), measured now") == 1
    assert text.count("memory format") == 1
    for name in ("baseline", "target"):
        assert yaml.safe_load((run / "weights" / f"{name}.yaml").read_text())["channels_last"] is False


# The measurement


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def work(self, *seconds):
        """A function that takes so many seconds, the last of them at every further call."""
        waiting = list(seconds)

        def function():
            self.now += waiting.pop(0) if len(waiting) > 1 else waiting[0]
            function.calls += 1

        function.calls = 0
        return function


def test_both_are_measured_in_turns_and_the_first_call_does_not_count():
    clock = Clock()
    some, other = clock.work(100, 4, 1, 7), clock.work(50, 2)
    assert in_turns([some, other], clock) == [4, 2]  # medians of 4, 1, 7 and of 2, 2, 2
    assert (some.calls, other.calls) == (4, 4)


@pytest.mark.parametrize(("seconds", "rounds"), [(10, 3), (1 / 16, 7), (1 / 4096, 50)])
def test_a_measurement_takes_a_second_and_three_rounds_at_least(seconds, rounds):
    clock = Clock()
    functions = [clock.work(seconds), clock.work(seconds)]
    in_turns(functions, clock)
    assert [function.calls for function in functions] == [rounds + 1] * 2


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "64-true"])
@pytest.mark.parametrize("network", ["srresnet_small", "two_branch_small"])
def test_a_step_is_measured_in_each_format_and_changes_the_weights(monkeypatch, precision, network, settings_of):
    settings = settings_of(f"network={network}", "network.features=4", f"trainer.precision={precision}")
    kind, modules = {"batch_size": 2, "patch_size": 16, "precision": precision}, []
    make = trained.make_module
    monkeypatch.setattr(trained, "make_module", lambda *given: modules.append(make(*given)) or modules[-1])

    def take(steps):
        before = [{name: value.clone() for name, value in m.network.state_dict().items()} for m in modules]
        for step in steps:
            step()
        for module, state in zip(modules, before, strict=True):
            now = module.network.state_dict()
            assert all(torch.isfinite(value).all() for value in now.values())
            assert not torch.equal(now["conv_hr.weight"], state["conv_hr.weight"])
        return [2.0, 1.0]

    monkeypatch.setattr(trained, "in_turns", take)
    random = torch.get_rng_state()
    assert compare(settings, kind) == (2.0, 1.0)
    assert torch.equal(random, torch.get_rng_state())
    assert [module.channels_last for module in modules] == [True, False]
    weight = modules[0].network.conv_hr.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert weight.dtype == {"64-true": torch.float64, "bf16-true": torch.bfloat16}.get(precision, torch.float32)


def test_this_processor_has_a_name():
    kind = processor_kind()
    assert set(kind) == set(KIND)
    assert kind["processor"]
    assert kind["instructions"].startswith(torch.backends.cpu.get_cpu_capability())
    assert (kind["threads"], kind["torch"]) == (torch.get_num_threads(), torch.__version__)
    json.dumps(kind)


def test_instructions_that_onednn_may_not_use_count(monkeypatch):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    usual = processor_kind()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert processor_kind() == usual | {"instructions": f"{usual['instructions']} AVX2"}
