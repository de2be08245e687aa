"""A run recorded through its monitor, and the page that shows it."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from srpo_fast.batch import Completion, Group, HeldOut, Score, Transitions
from srpo_fast.config import Config, UserError
from srpo_fast.monitor.idle_steps import idle_warning
from srpo_fast.monitor.metrics import MetricsWriter
from srpo_fast.monitor.progress import PlainDisplay
from srpo_fast.monitor.report import write_report
from srpo_fast.monitor.run_directory import RunDirectory, open_run, read_jsonl
from srpo_fast.monitor.run_monitor import RECORDED_GROUPS, Monitor, WritingMonitor, open_monitor
from srpo_fast.monitor.samples import MAX_IMAGE_SIDE, encode_png, read_completions, write_completions
from srpo_fast.monitor.summary import read_summary
from tests.prompt_case import bare_prompt

HOSTILE = "<script>alert('x')</script>"
WELL_FORMED = (
    "<think>3 1</think><answer>$\\boxed{5}$</answer><reflection>reading wrong</reflection>"
    "<think>3 1;4</think><answer>$\\boxed{4}$</answer>"
)


def make_config(directory, **reward):
    return Config.model_validate(
        {
            "run": {"dir": str(directory), "seed": 3},
            "model": {"path": "embedded"},
            "data": {"train": "embedded"},
            "prompt": {"answer_system": f"answer {HOSTILE}", "rollout_system": "reflect"},
            "reward": reward,
        }
    )


def make_score(first, second, *reasons):
    parts = {"format": 0.5, "accuracy": 0.5 * first, "effectiveness": 0.25, "reflection_format": 0.25, "length": 0.03}
    return Score(total=1.53, first_correct=first, second_correct=second, reasons=reasons, **parts)


def make_group(name, texts_and_scores, text="<image>What is the sum?"):
    prompt = bare_prompt(name, text=text, images=(Image.new("RGB", (112, 28), "white"),), answer="4")
    completions = tuple(
        Completion(token_ids=(5, 6, 7), rollout_logprobs=(0.0,) * 3, text=t, is_finished=True, policy_version=0)
        for t, _ in texts_and_scores
    )
    return Group(prompt=prompt, completions=completions, scores=tuple(score for _, score in texts_and_scores))


GROUP = make_group(
    "train-1",
    [(WELL_FORMED, make_score(False, True, "first_wrong")), (f"{HOSTILE} no tags", make_score(False, False, HOSTILE))],
)
METRICS = {
    "rollout/reward_mean": 1.25,
    "rollout/acc_first": 0.5,
    "rollout/acc_second": 0.625,
    "train/clip_fraction": 0.0,
    "rollout/completion_tokens_mean": 30.0,
    "rollout/mismatch_kl": 2e-9,
    **{f"rollout/transitions_{name}": count for name, count in (("rr", 4), ("wr", 2), ("rw", 1), ("ww", 1))},
}


def make_heldout(acc1, acc2):
    return HeldOut(
        num_questions=1024,
        acc1=acc1,
        acc2=acc2,
        greedy_acc1=acc1,
        greedy_acc2=acc2,
        transitions=Transitions(rr=600, wr=150, rw=50, ww=224),
    )


def open_writing(directory):
    stream = io.StringIO()
    config = make_config(directory)
    return WritingMonitor(config, open_run(config), PlainDisplay(stream)), stream


def record_run(directory, steps=12):
    monitor, stream = open_writing(directory)
    with monitor:
        with monitor.phase("cold_start", 1) as bar:
            bar.advance(loss=0.5)
        monitor.log_heldout("sft", make_heldout(0.6, 0.61))
        with monitor.phase("srpo", steps):
            for step in range(steps):
                with monitor.timer("rollout"):
                    pass
                monitor.log_step(step, METRICS, [GROUP])
        monitor.log_heldout("srpo", make_heldout(0.7, 0.75))
        monitor.finish()
    return RunDirectory(directory), stream.getvalue()


class Page(HTMLParser):
    """What a browser would find: tags with their attributes, and the text outside of style."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words, self._open = [], [], []
        self.feed(html)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "br", "link"}:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, "tags must nest"

    def handle_data(self, data):
        if self._open[-1:] != ["style"]:
            self.words.append(data)

    def count(self, tag):
        return sum(1 for name, _ in self.tags if name == tag)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return record_run(tmp_path_factory.mktemp("runs") / "my-run")


@pytest.fixture(scope="module")
def page(recorded):
    return Page(recorded[0].report.read_text())


def test_the_page_has_the_headline_figures(page):
    assert "my-run" in page.text
    assert "75.0 %" in page.text
    assert "+14.0 \N{PLUS-MINUS SIGN} 2.0 points over SFT" in page.text
    assert "seed 3" in page.text


def test_the_page_has_accuracy_with_errors_and_transitions(page):
    assert "SFT 60.0 \N{PLUS-MINUS SIGN}1.5" in page.text
    assert "SRPO 70.0 \N{PLUS-MINUS SIGN}1.4" in page.text
    assert "40 % of wrong first answers repaired" in page.text  # 150 of 374
    for name in ("wrong", "right"):
        assert f"{name} \N{RIGHTWARDS ARROW} right" in page.text


def test_the_page_draws_a_curve_for_every_recorded_metric(page):
    labels = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"]
    for title in ("Reward", "Accuracy", "Response length", "Clipped tokens", "Transitions", "Seconds per step"):
        assert title in labels
    assert "Gradient norm" not in labels  # it was not recorded


def test_completions_stand_beside_their_images(page):
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 4  # two transitions at the first step, two at the last
    picture = Image.open(io.BytesIO(base64.b64decode(sources[0].removeprefix("data:image/png;base64,"))))
    assert picture.size == (112, 28)
    assert "first_wrong" in page.text
    assert "reading wrong" in page.text
    assert "What is the sum?" in page.text
    assert "<image>" not in page.text


def test_the_blocks_of_a_completion_are_told_apart(page):
    blocks = [attributes["class"] for tag, attributes in page.tags if "block" in attributes.get("class", "").split()]
    assert blocks[:5] == ["block think", "block answer", "block reflection", "block think", "block answer"]
    assert blocks[5] == "block stray"


def test_right_and_wrong_answers_are_marked_in_order(page):
    marks = [attributes["class"] for tag, attributes in page.tags if attributes.get("class") in ("right", "wrong")]
    assert marks[:2] == ["wrong", "right"]


def test_what_a_model_wrote_is_shown_and_never_run(recorded, page):
    html = recorded[0].report.read_text()
    assert page.count("script") == 0
    assert HOSTILE not in html
    assert f"{HOSTILE} no tags" in page.text  # as text, in the completion
    assert f"answer {HOSTILE}" in page.text  # in the configuration


def test_the_page_needs_nothing_but_itself(recorded, page):
    html = recorded[0].report.read_text()
    assert not re.search(r"https?://|@import|url\(", html)
    assert page.count("link") == 0
    assert all("src" not in a or a["src"].startswith("data:image/png;base64,") for _, a in page.tags)


def test_the_table_at_the_end_names_the_report(recorded):
    run, shown = recorded
    assert str(run.report) in shown
    assert "75.0 \N{PLUS-MINUS SIGN}1.4" in shown


def test_the_summary_of_a_finished_run_is_complete(recorded):
    summary = read_summary(recorded[0].summary)
    assert (summary.seed, summary.method) == (3, "SRPO")
    assert (summary.reward_first, summary.reward_last) == (1.25, 1.25)
    assert set(summary.seconds) == {"cold_start", "srpo", "other"}
    assert summary.heldout["srpo"].acc2 == 0.75


def test_every_step_has_its_metrics_times_and_memory(recorded):
    lines = read_jsonl(recorded[0].metrics)
    assert [line["step"] for line in lines] == list(range(12))
    keys = {"time/rollout_s", "time/unaccounted_s", "time/step_s", "memory/peak_gib", "memory/host_gib", *METRICS}
    assert all(keys <= set(line) for line in lines)


def test_a_run_without_any_step_has_a_report(tmp_path):
    monitor, _ = open_writing(tmp_path / "run")
    with monitor:
        monitor.finish()
    page = Page((tmp_path / "run" / "report.html").read_text())
    assert "0 steps" in page.text
    assert page.count("svg") == 0


IDLE = {"train/updates": 0.0, "rollout/groups_right": 0.75, "rollout/groups_wrong": 0.125}


def test_a_run_that_trained_nothing_says_so_in_terminal_summary_and_report(tmp_path):
    monitor, stream = open_writing(tmp_path / "run")
    with monitor:
        with monitor.phase("srpo", 2):
            for step in range(2):
                monitor.log_step(step, METRICS | IDLE, [GROUP])
        monitor.finish()
    said = (
        "2 of 2 steps trained nothing: stage 2 left the weights as they were. Of their groups 75 % right throughout, "
        "12 % wrong throughout, 12 % in between, but dropped or of equal rewards. Take harder questions,"
    )
    summary = read_summary(monitor.run.summary)
    assert summary.steps_idle == 2
    assert (summary.warning or "").startswith(said)
    assert f"warning: {said}" in " ".join(stream.getvalue().split())
    assert f"Warning {said}" in " ".join(Page(monitor.run.report.read_text()).text.split())


def test_steps_that_trained_give_no_warning_and_some_that_did_not_are_counted(recorded):
    shown, summary = recorded[1], read_summary(recorded[0].summary)
    assert (summary.steps_idle, summary.warning) == (0, None)
    assert "trained nothing" not in shown + recorded[0].report.read_text()
    lines = [{"train/updates": 1.0}] * 3 + [{"train/updates": 0.0, "rollout/groups_wrong": 1.0}]
    text = idle_warning(lines) or ""
    assert text.startswith("1 of 4 steps trained nothing. Of their groups 0 % right throughout, 100 % wrong throughout")
    assert "easier questions" in text


def test_a_run_of_one_step_has_a_report(tmp_path):
    run, _ = record_run(tmp_path / "run", steps=1)
    assert Page(run.report.read_text()).count("svg") > 4


def test_a_run_cut_short_can_be_reported(tmp_path):
    monitor, _ = open_writing(tmp_path / "run")
    with monitor, monitor.phase("srpo", 10):
        monitor.log_step(0, METRICS | {"rollout/reward_mean": float("nan")}, [GROUP])
        page = Page(write_report(monitor.run.root).read_text())
    assert "Transitions" in page.text


def test_no_report_of_what_is_no_run(tmp_path):
    with pytest.raises(UserError, match="no run directory"):
        write_report(tmp_path)


def test_a_resumed_run_goes_on_where_it_was(tmp_path):
    record_run(tmp_path / "run", steps=4)
    before = read_summary(tmp_path / "run" / "summary.json").seconds
    monitor, stream = open_writing(tmp_path / "run")
    monitor.resume_at(2)
    assert "resumed: step 2 is next" in stream.getvalue()
    assert [line["step"] for line in read_jsonl(monitor.run.metrics)] == [0, 1]
    assert [path.stem for path in monitor.run.completion_files()] == ["step_000000", "step_000001"]
    with monitor, monitor.phase("srpo", 4, done=2):
        monitor.log_step(2, METRICS, [GROUP])
    summary = read_summary(monitor.run.summary)
    assert summary.heldout["sft"].acc1 == 0.6
    assert summary.seconds["cold_start"] == before["cold_start"]
    assert summary.seconds["srpo"] > before["srpo"]


def test_an_evaluation_inside_the_loop_is_counted_apart(tmp_path):
    monitor, _ = open_writing(tmp_path / "run")
    with monitor, monitor.phase("srpo", 1):
        with monitor.phase("evaluation", 1) as bar:
            bar.advance()
        monitor.log_step(0, METRICS, [GROUP])
    assert "time/evaluation_s" in read_jsonl(monitor.run.metrics)[0]
    assert {"srpo", "evaluation"} <= set(read_summary(monitor.run.summary).seconds)


def test_other_ranks_write_and_print_nothing(tmp_path, capsys):
    monitor = open_monitor(make_config(tmp_path / "run"), rank=1)
    with monitor:
        with monitor.phase("srpo", 1) as bar:
            bar.advance(loss=1.0)
            monitor.log_step(0, METRICS, [GROUP])
        monitor.note("hidden")
        monitor.log_heldout("srpo", make_heldout(0.7, 0.75))
        monitor.finish()
    assert type(monitor) is Monitor
    assert not (tmp_path / "run").exists()
    assert capsys.readouterr() == ("", "")


def test_rank_0_says_at_once_what_runs(tmp_path, capsys):
    with open_monitor(make_config(tmp_path / "run", variant="grpo"), rank=0):
        shown = capsys.readouterr().out
    assert shown.startswith("GRPO, model embedded, seed 3, run directory")
    assert shown.count("\n") == 1


def test_only_some_groups_of_a_step_are_recorded_but_whole(tmp_path):
    monitor, _ = open_writing(tmp_path / "run")
    with monitor, monitor.phase("srpo", 1):
        monitor.log_step(0, METRICS, [GROUP] * (RECORDED_GROUPS + 3))
    assert len(read_completions(monitor.run.completions_of(0))) == 2 * RECORDED_GROUPS


def test_a_record_has_every_part_and_the_image_once_a_group(tmp_path):
    path = tmp_path / "step_000004.jsonl"
    write_completions(path, 4, [GROUP])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [len(line["images"]) for line in lines] == [1, 0]
    assert lines[0]["reward_parts"]["effectiveness"] == 0.25
    records = read_completions(path)
    assert [record.images for record in records] == [records[0].images] * 2
    assert (records[0].step, records[0].prompt_id, records[0].gold, records[0].text) == (4, "train-1", "4", WELL_FORMED)
    assert (records[0].first_correct, records[0].second_correct, records[0].num_tokens) == (False, True, 3)


def test_line_separators_inside_a_text_stay_inside_its_line(tmp_path):
    text = "a\u2028b\nc\r\nd"
    write_completions(tmp_path / "step_000000.jsonl", 0, [make_group("x", [(text, make_score(True, True))])])
    assert [record.text for record in read_completions(tmp_path / "step_000000.jsonl")] == [text]


def test_large_images_are_recorded_small_and_small_ones_as_they_are():
    large, small = Image.new("RGB", (2000, 1000)), Image.new("RGB", (112, 28), "red")
    sizes = [Image.open(io.BytesIO(base64.b64decode(encode_png(image)))).size for image in (large, small)]
    assert sizes == [(MAX_IMAGE_SIDE, MAX_IMAGE_SIDE // 2), (112, 28)]
    assert large.size == (2000, 1000)


def test_transition_shares_survive_a_step_that_sampled_nothing(tmp_path):
    run, _ = record_run(tmp_path / "run", steps=1)
    empty = {key: 0 for key in METRICS if "transitions" in key}
    MetricsWriter(run.metrics).write(1, empty)
    MetricsWriter(run.metrics).write(2, {key: float("nan") for key in empty})
    assert "Transitions" in Page(write_report(run.root).read_text()).text


def test_what_a_step_gives_reason_to_say_is_shown_with_it(tmp_path):
    monitor, stream = open_writing(tmp_path / "run")
    with monitor, monitor.phase("srpo", 2):
        for step in range(2):
            monitor.log_step(step, METRICS | {"rollout/mismatch_abs": 0.04}, [GROUP])
    assert stream.getvalue().count("4.0e-02 from the policy's") == 1
