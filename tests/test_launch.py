"""Runs of forks end as runs of their own would."""

from pathlib import Path

from tests.launch import run_on_ranks

SCRIPT = """
import os, sys, time
if __name__ == "__main__":
    import torch.distributed as dist
    dist.init_process_group("gloo")
    if sys.argv[1] == "raises" and dist.get_rank() == 1:
        raise ValueError("one rank")
    if sys.argv[1] == "raises":
        time.sleep(600)
    print(dist.get_rank(), os.environ["MARK"], flush=True)
    sys.exit(int(sys.argv[1]))
"""


def write(folder: Path, text: str) -> str:
    path = folder / f"{len(text)}.py"
    path.write_text(text)
    return str(path)


def test_ranks_say_and_return_what_they_do_in_the_environment_of_the_call(tmp_path, monkeypatch):
    script = write(tmp_path, SCRIPT)
    for mark in ("a", "b"):
        monkeypatch.setenv("MARK", mark)
        result = run_on_ranks(2, script, "0")
        assert (result.returncode, sorted(result.stdout.splitlines())) == (0, [f"0 {mark}", f"1 {mark}"])
    assert run_on_ranks(2, script, "3").returncode == 1


def test_a_rank_that_raises_says_so_and_ends_the_others(tmp_path):
    result = run_on_ranks(2, write(tmp_path, SCRIPT), "raises")
    assert result.returncode == 1
    assert result.stderr.count("ValueError: one rank") == 1


def test_an_exit_code_is_that_of_the_script_where_it_is_alone(tmp_path):
    assert run_on_ranks(1, write(tmp_path, "import sys\nif __name__ == '__main__': sys.exit(7)")).returncode == 7
    told = run_on_ranks(1, write(tmp_path, "import sys\nif __name__ == '__main__': sys.exit('why')"))
    assert (told.returncode, told.stderr.strip()) == (1, "why")


def test_a_script_that_cannot_be_imported_fails_alone(tmp_path):
    result = run_on_ranks(1, write(tmp_path, "import no_such_module"))
    assert result.returncode == 1
    assert "No module named 'no_such_module'" in result.stderr
    assert run_on_ranks(1, write(tmp_path, "x = 1")).returncode == 0
