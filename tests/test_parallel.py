"""Ranks and their devices, as far as a machine without a GPU can tell."""

import importlib
import os

import pytest
import torch
import triton

import srpo_fast
from srpo_fast import parallel
from srpo_fast.config import ConfigError, ParallelConfig


@pytest.fixture
def two_gpus(monkeypatch) -> dict[str, object]:
    """What torch was told, on a machine where it sees two."""
    told: dict[str, object] = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: ("stream", device))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: told.update(device=device))
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: told.update(stream=stream))
    return told


def test_a_rank_has_a_gpu_and_a_stream_of_its_own(two_gpus):
    assert parallel._device(1) == torch.device("cuda", 1)
    assert two_gpus == {"device": 1, "stream": ("stream", 1)}


def test_more_ranks_than_gpus_are_told_before_any_waits_for_another(two_gpus, monkeypatch):
    for name, value in {"RANK": "2", "WORLD_SIZE": "3", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"3 processes run on this machine, one a GPU.*sees 2 here; start at most 2"):
        parallel.start(ParallelConfig())


def test_a_gpu_out_of_reach_is_told_instead_of_training_on_the_cpu(monkeypatch, tmp_path):
    monkeypatch.setattr(parallel, "NVIDIA_DRIVER", tmp_path)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(ConfigError, match=r"sees no GPU, though an NVIDIA driver is here.*too old for CUDA 13"):
        parallel._device(0)
    for hidden in ("", "-1"):  # as wished
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert parallel._device(0) == torch.device("cpu")


def test_fp32_products_of_an_engine_on_a_gpu_are_not_rounded(monkeypatch):
    monkeypatch.setenv("TRITON_F32_DEFAULT", "")
    del os.environ["TRITON_F32_DEFAULT"]  # is put back as it was, whatever sets it now
    monkeypatch.setenv("CUDA_DEVICE_MAX_CONNECTIONS", "8")  # a user's own is left as it is
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0")
    importlib.reload(srpo_fast)
    assert triton.knobs.language.fp32_default == "ieee"
    assert os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] == "8"
