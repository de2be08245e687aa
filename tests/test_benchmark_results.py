"""The gate on committed figures: no kind of machine may have lost efficiency without anybody's saying so."""

import json

import pytest

from benchmarks.ops.picture import README, head_rows, svg, with_table
from benchmarks.ops.results import RESULTS, keep, regressions


def document(efficiency, *, ms=(9.0, 10.0, 11.0), time="2026-01-02T03:04:05+00:00", kind="a-machine", variant="ours"):
    row = dict(zip(("ms_p20", "ms_p50", "ms_p80"), ms, strict=True), efficiency=efficiency)
    return {
        "machine": {"kind": kind, "commit": "abc1234", "time": time},
        "rows": [{"op": "head", "workload": "w", "variant": variant, **row}],
    }


def test_no_committed_figures_have_fallen():
    assert regressions() == []


def test_readme_and_picture_are_those_of_the_committed_figures():
    files = sorted(RESULTS.glob("*/ops.json"))
    assert files
    assert with_table(README.read_text(), files) == README.read_text(), "run python -m benchmarks.ops.picture"
    assert all((file.parent / "ops.svg").read_text() == svg(head_rows(file)) for file in files)


@pytest.mark.parametrize(
    ("efficiency", "ms", "found"),
    [
        (0.5, (19.0, 20.0, 21.0), ["a-machine head w: efficiency 0.500 (20.00 ms), was efficiency 0.800 (10.00 ms)"]),
        (0.78, (9.9, 10.3, 10.5), []),  # by less than 5 %
        (0.7, (9.0, 11.4, 15.0), []),  # the middle rounds of the two meet
        (0.9, (8.0, 9.0, 9.5), []),
    ],
    ids=["fell", "hardly", "noise", "rose"],
)
def test_a_fall_beyond_noise_is_named(tmp_path, efficiency, ms, found):
    keep(document(0.8), tmp_path)
    keep(document(efficiency, ms=ms, time="2026-02-02T03:04:05+00:00"), tmp_path)
    assert regressions(tmp_path) == found


def test_the_best_of_the_earlier_figures_counts_and_only_of_the_same_kind_and_of_ours(tmp_path):
    for number, efficiency in enumerate((0.4, 0.8, 0.5)):
        path = keep(document(efficiency, time=f"2026-01-0{number + 1}T00:00:00+00:00"), tmp_path)
    assert path == tmp_path / "a-machine" / "ops.json"
    assert json.loads(path.read_text())["rows"][0]["efficiency"] == 0.5
    assert len(list(tmp_path.glob("a-machine/*/ops.json"))) == 2
    assert [line.rpartition("was")[2] for line in regressions(tmp_path)] == [" efficiency 0.800 (10.00 ms)"]
    keep(document(0.9, kind="another"), tmp_path)
    keep(document(0.1, kind="another", variant="torch"), tmp_path)
    assert len(regressions(tmp_path)) == 1
