"""Lines about a run: its command line and its total time."""

import json

from faig_lab.report import texts
from faig_lab.report.report import write_report
from faig_lab.runs.folder import RunFolder


def with_metrics(run, **more):
    path = run / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    return RunFolder(run)


def test_the_total_time_is_that_of_the_stages(make_run):
    run = make_run()
    timed = {"seconds/data": 2.0, "seconds/training": 60.5, "seconds/attribution": 30.0}
    studies = {"seconds/analysis": 1.5, "seconds/analysis/masking": 40.0, "seconds/analysis/modulation": 4.0}
    known = {key for key in RunFolder(run).metrics if key.startswith("seconds/")}
    assert known <= timed.keys()
    untimed = {"seconds/attribution/path_integral": 25.0, "seconds/expected": 300.0}
    assert texts.total_seconds(with_metrics(run, **timed, **studies, **untimed)) == 138.0


def test_a_run_without_times_has_no_total(make_run):
    run = make_run()
    path = run / "metrics.json"
    known = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in known.items() if not key.startswith("seconds/")}))
    assert texts.total_seconds(RunFolder(run)) is None
    assert texts.command(RunFolder(run)) == ""
    write_report(run)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Command:" not in page
    assert "Total time" not in page


def test_the_page_has_the_command_line_and_the_total_time(make_run):
    run = make_run()
    with_metrics(run, **{"seconds/training": 75.0})
    status = run / "status.json"
    known = json.loads(status.read_text()) if status.is_file() else {}
    status.write_text(json.dumps(known | {"command": "python -m faig_lab experiment=blur_noise 'name=<a>'"}))
    write_report(run)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Command: <code>python -m faig_lab experiment=blur_noise &#39;name=&lt;a&gt;&#39;</code>" in page
    assert "Total time: " in page
