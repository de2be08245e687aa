"""`srpo reflect` as a user starts it: killed and started again, interrupted, refused."""

import json
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from srpo_fast import cli
from srpo_fast.embedded.task import direct_answer, load_samples
from srpo_fast.monitor.run_directory import read_jsonl
from srpo_fast.reflection.journal import Journal
from srpo_fast.reflection.records import FirstAnswer, asked
from tests.chat_server import TRANSPORT_FAULTS, ChatServer, serve
from tests.launch import ROOT, hear_interrupts, run_on_ranks
from tests.reflect_case import overrides, replies, write_pool
from tests.waiting import wait_until

COUNT = 60
FAULTS = tuple(fault for fault in TRANSPORT_FAULTS if fault != "hang")
JOURNALS = ("answers.jsonl", "judgements.jsonl", "reflections.jsonl")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pool(tmp_path_factory.mktemp("pool"), COUNT)


def arguments(pool: Path, base_url: str, out: Path, **reflection: object) -> list[str]:
    return ["reflect", "--out", str(out), *overrides(pool, base_url, **{"prompts": 60, "records": 20} | reflection)]


def start(pool: Path, base_url: str, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("srpo")), *arguments(pool, base_url, out), *options]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_interrupts
    )


def start_and_stop_at(number: int, server: ChatServer, pool: Path, out: Path) -> subprocess.Popen[str]:
    """A process that has that many results, or a few more, and is given no others."""
    server.answer_until(lambda: num_results(out) >= number)
    process = start(pool, server.base_url, out)
    assert wait_until(lambda: num_results(out) >= number or process.poll() is not None)
    return process


def num_results(out: Path) -> int:
    return sum((out / name).read_bytes().count(b"\n") for name in JOURNALS if (out / name).exists())


def test_killed_again_and_again_it_ends_with_the_file_of_an_undisturbed_run(pool, tmp_path):
    with serve(replies=replies(COUNT)) as server:
        calm = start(pool, server.base_url, tmp_path / "calm", "--json")
        out, err = calm.communicate()
        assert calm.returncode == 0, err
        statistics = json.loads(out.splitlines()[-1])
        assert statistics["file"] == str(tmp_path / "calm" / "sft.json")
        assert statistics["examples"] == {"all": 20, "right": 6, "wrong": 14}
        expected = {record.key for record in server.records}
    chance, killed = random.Random(0), tmp_path / "killed"
    with serve(replies=replies(COUNT), fault_rate=0.3, faults=FAULTS, seed=1) as server:
        for _ in range(3):
            process = start_and_stop_at(num_results(killed) + chance.randint(5, 35), server, pool, killed)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        server.answer_until(lambda: False)
        done = num_results(killed)
        assert 15 <= done < 60 + 60 + 20
        before = Counter(record.key for record in server.records if record.fault is None)
        last = start(pool, server.base_url, killed)
        out, err = last.communicate()
        assert last.returncode == 0, err
        assert " 0/" not in out.splitlines()[0]  # the bar begins where the last process ended
        served = Counter(record.key for record in server.records if record.fault is None)
        assert served.keys() == expected  # nothing left out, nothing that an undisturbed run would not ask
        # whatever was not yet on disk when a process died was under way: at most the endpoint's concurrency
        repeated = sum(served.values()) - len(served)
        assert repeated <= 3 * 8
        assert sum(before.values()) - done <= 3 * 8
    assert (killed / "sft.json").read_bytes() == (tmp_path / "calm" / "sft.json").read_bytes()
    for name in JOURNALS:
        lines = read_jsonl(killed / name)
        assert len({line["id"] for line in lines}) == len(lines)


def test_ctrl_c_ends_it_with_one_line_that_says_how_to_go_on(pool, tmp_path):
    with serve(replies=replies(COUNT)) as server:
        process = start_and_stop_at(5, server, pool, tmp_path / "out")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert err == f"stopped; all that is done is in {tmp_path / 'out'}: the same command goes on from there\n"


def test_other_settings_and_a_second_writer_are_refused_in_one_line(pool, tmp_path, capsys):
    out = tmp_path / "out"
    with serve(replies=replies(COUNT)) as server:
        first = start_and_stop_at(5, server, pool, out)
        assert cli.main(arguments(pool, server.base_url, out)) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"error: {out} is being written by process {first.pid}")
        assert err.count("\n") == 1
        first.send_signal(signal.SIGKILL)
        first.wait()
        before = len(server.records)
        assert cli.main(arguments(pool, server.base_url, out, temperature=0.9)) == 2
        err = capsys.readouterr().err
        assert "answers.jsonl holds results of other settings: temperature=0.2, now temperature=0.9; take" in err
        assert err.count("\n") == 1
        assert len(server.records) == before


def test_policy_and_teacher_share_a_process_one_engine_after_the_other(untrained_model, tmp_path):
    teacher = tmp_path / "teacher"
    shutil.copytree(untrained_model, teacher)
    config = json.loads((teacher / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 8192  # the teacher's instructions are long in single letters
    (teacher / "config.json").write_text(json.dumps(config))
    out = tmp_path / "out"
    out.mkdir()
    samples = load_samples("train", 8, 0)
    answers = Journal(out / "answers.jsonl", FirstAnswer)
    for sample in samples[:6]:  # of an earlier process; random weights do not write the form
        answers.write(
            FirstAnswer(
                **asked(sample.question), text=direct_answer(sample), is_finished=True, is_right=True, prompt_tokens=1,
                completion_tokens=1,
            )
        )  # fmt: skip
    answers.close()
    # its tokens are drawn almost evenly, and one in a few hundred ends the string
    local = {
        "path": str(teacher), "dtype": "float32", "max_prompt_tokens": 4096, "max_tokens": 600, "temperature": 2.0,
        "max_num_seqs": 8, "kv_cache_gib": 0.125,
    }  # fmt: skip
    reflection = {
        "teacher": local, "prompts": 8, "records": 6, "right_share": None, "max_tokens": 8, "think_blocks": 1,
    }  # fmt: skip
    command = [
        "reflect", "--json", "--out", str(out), f"run.dir={tmp_path}/run",
        f"model.path={untrained_model}", "rollout.kv_cache_gib=0.0625", "rollout.max_num_seqs=8",
        f"reflection={json.dumps(reflection)}",
    ]  # fmt: skip
    result = run_on_ranks(1, "tests/srpo_command.py", *command)
    assert "error: stage 1 ends without an example" in result.stderr, result.stderr[-4000:]  # there are tags in them
    assert result.returncode == 2
    statistics = json.loads((out / "statistics.json").read_text())
    assert statistics["first_answers"]["all"] == 8
    assert statistics["rejected"]["answer: cut_off"] == 2  # by the policy
    assert statistics["usage"]["reflections"]["requests"] == 6
    reflections = [line["text"] for line in read_jsonl(out / "reflections.jsonl")]
    assert len(set(reflections)) == len(reflections) > 0  # no two draw the same random numbers


def test_neither_vllm_nor_transformers_is_imported_where_servers_do_all_the_work():
    code = "import sys, srpo_fast.reflection.alone; print(*{'vllm', 'transformers', 'megatron'} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
