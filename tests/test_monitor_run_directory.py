"""One run directory holds one run: opened, resumed, refused."""

import subprocess
import sys

import pytest

from srpo_fast.config import Config, ConfigError, UserError, dump_config
from srpo_fast.monitor.run_directory import open_run, read_jsonl, step_of, write_atomically


def make_config(directory, **changes):
    document = {
        "run": {"dir": str(directory), **changes.pop("run", {})},
        "model": {"path": "embedded"},
        "data": {"train": "embedded"},
        "prompt": {"answer_system": "answer", "rollout_system": "reflect"},
    }
    return Config.model_validate(document | changes)


def begin(config):
    """The directory of a run that has done a step."""
    run = open_run(config)
    run.metrics.write_text('{"step": 0}\n')
    return run


def snapshot(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_new_run_writes_its_resolved_config(tmp_path):
    config = make_config(tmp_path / "deep" / "run")
    run = open_run(config)
    assert run.config.read_text() == dump_config(config)
    assert [path.name for path in run.root.iterdir() if path.is_file()] == ["config.resolved.yaml"]


def test_an_empty_directory_becomes_a_run(tmp_path):
    assert open_run(make_config(tmp_path)).config.is_file()


def test_the_same_config_opens_the_run_again(tmp_path):
    run = open_run(make_config(tmp_path / "run"))
    before = snapshot(run.root)
    assert open_run(make_config(tmp_path / "run")).root == run.root
    assert snapshot(run.root) == before


def test_a_run_that_was_moved_opens_again(tmp_path):
    open_run(make_config(tmp_path / "old")).root.rename(tmp_path / "new")
    assert open_run(make_config(tmp_path / "new")).root == tmp_path / "new"


def test_a_run_goes_on_however_ranks_share_the_policy(tmp_path):
    begin(make_config(tmp_path / "run", parallel={"tp": 2}, model={"path": "embedded"}))
    model = {"path": "embedded", "recompute": "full"}
    open_run(make_config(tmp_path / "run", parallel={"pp": 2, "cp": 2, "chunks_per_stage": 2}, model=model))
    with pytest.raises(ConfigError, match=r"parallel\.distributed_optimizer=False, this one has .*=True"):
        open_run(make_config(tmp_path / "run", parallel={"distributed_optimizer": True}))


def test_a_run_that_was_ended_as_a_hang_goes_on_with_a_higher_limit(tmp_path):
    begin(config := make_config(tmp_path / "run"))
    longer = config.run.model_copy(update={"max_quiet_minutes": 2 * config.run.max_quiet_minutes})
    assert open_run(config.model_copy(update={"run": longer})).has_begun


def test_another_config_is_refused_naming_key_values_and_remedy(tmp_path):
    run = begin(make_config(tmp_path / "run", optimizer={"lr": 1e-4}))
    before = snapshot(run.root)
    with pytest.raises(ConfigError) as error:
        open_run(make_config(tmp_path / "run", optimizer={"lr": 2e-4}))
    message = str(error.value)
    assert "optimizer.lr=0.0001" in message
    assert "optimizer.lr=0.0002" in message
    assert "another run.dir, or delete" in message
    assert "\n" not in message
    assert snapshot(run.root) == before


def test_a_run_that_has_begun_may_get_more_steps_and_no_fewer_than_it_has_done(tmp_path):
    run = begin(make_config(tmp_path / "run", steps=40))
    (run.checkpoints / "step_000040").mkdir(parents=True)
    notes: list[str] = []
    more = make_config(tmp_path / "run", steps=60, optimizer={"decay_share": 0.0})
    assert open_run(more, notes.append).root == run.root
    assert notes == ["steps=40 until now, 60 from here on"]
    assert run.config.read_text() == dump_config(more)
    open_run(more, notes.append)
    assert len(notes) == 1
    with pytest.raises(ConfigError, match=r"has done 40 steps, this one has steps=39; set as many or more"):
        open_run(make_config(tmp_path / "run", steps=39))
    open_run(make_config(tmp_path / "run", steps=40))


def test_a_section_that_one_config_lacks_is_a_difference(tmp_path):
    begin(make_config(tmp_path / "run"))
    with pytest.raises(ConfigError, match="not set"):
        open_run(make_config(tmp_path / "run", reflection={"teacher": "embedded"}, cold_start={}))


def test_resume_never_refuses_a_run_that_exists(tmp_path):
    begin(make_config(tmp_path / "run"))
    with pytest.raises(ConfigError, match="resume=never"):
        open_run(make_config(tmp_path / "run", run={"resume": "never"}))


def test_a_start_that_failed_may_be_corrected(tmp_path):
    run = open_run(make_config(tmp_path / "run", model={"path": "wrong"}))
    run.summary.write_text("{}")
    corrected = make_config(tmp_path / "run", model={"path": "right"})
    assert open_run(corrected).config.read_text() == dump_config(corrected)
    assert not run.summary.exists()


def test_a_run_begun_with_resume_never_can_be_resumed(tmp_path):
    run = begin(make_config(tmp_path / "run", run={"resume": "never"}))
    assert open_run(make_config(tmp_path / "run", run={"resume": "auto"})).root == run.root


def test_a_directory_of_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("do not lose")
    with pytest.raises(ConfigError, match="no run directory"):
        open_run(make_config(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(ConfigError, match="no run directory"):
        open_run(make_config(tmp_path / "run"))
    with pytest.raises(ConfigError, match="cannot be made"):
        open_run(make_config(tmp_path / "run" / "below"))


def test_a_start_broken_off_before_its_config_begins_anew(tmp_path):
    (tmp_path / "completions").mkdir()
    assert open_run(make_config(tmp_path)).config.is_file()


@pytest.mark.parametrize("text", ["a: [", "just words"])
def test_an_unreadable_config_in_the_directory_is_one_clear_error(tmp_path, text):
    run = begin(make_config(tmp_path / "run"))
    run.config.write_text(text)
    with pytest.raises(ConfigError, match="not a resolved config"):
        open_run(make_config(tmp_path / "run"))


def test_completion_files_come_in_the_order_of_their_steps(tmp_path):
    run = open_run(make_config(tmp_path))
    for step in (1_000_000, 2, 30):
        run.completions_of(step).touch()
    assert [step_of(path) for path in run.completion_files()] == [2, 30, 1_000_000]


def test_an_atomic_write_leaves_nothing_but_the_new_file(tmp_path):
    write_atomically(tmp_path / "a.json", "old")
    write_atomically(tmp_path / "a.json", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "new")]


def test_a_last_line_cut_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"step": 0}\n{"step": 1}\n{"ste')
    assert read_jsonl(path) == [{"step": 0}, {"step": 1}]


def test_a_broken_line_inside_is_named(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"step": 0}\nbroken\n{"step": 2}\n')
    with pytest.raises(UserError, match=r"lines\.jsonl:2"):
        read_jsonl(path)


def test_a_directory_in_which_another_process_runs_is_refused_as_it_is(tmp_path):
    run = open_run(make_config(tmp_path / "run"))
    held = run.config.read_text()
    code = "import sys; from pathlib import Path; from srpo_fast.writer_lock import WriterLock\n"
    code += "lock = WriterLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(run.lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UserError, match=f"is being written by process {other.pid}"):
            open_run(make_config(tmp_path / "run", optimizer={"lr": 2e-4}))
        other.kill()
    assert run.config.read_text() == held
    assert open_run(make_config(tmp_path / "run")).root == run.root
