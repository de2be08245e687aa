import shutil
import warnings

import pytest
import torch

import srpo_kernels
from srpo_kernels import native, reference

HAS_TOOLS = shutil.which("cmake") is not None and shutil.which("c++") is not None


@pytest.fixture
def fresh_loader():
    native.library.cache_clear()
    yield
    native.library.cache_clear()


@pytest.mark.skipif(not HAS_TOOLS, reason="set-up builds no native library without cmake and a C++ compiler")
def test_the_library_is_built_where_it_can_be():
    assert native.is_available()


def test_every_operation_has_a_twin():
    operations = [name for name in srpo_kernels.__all__ if not isinstance(getattr(srpo_kernels, name), type)]
    assert all(hasattr(reference, name) for name in operations)


@pytest.mark.usefixtures("fresh_loader")
def test_without_a_library_the_twins_serve_after_one_warning(monkeypatch):
    monkeypatch.setattr(native, "FILE_NAME", "absent.so")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bins = srpo_kernels.pack_sequences(torch.tensor([5, 3, 9]), 10)
    assert bins.tolist() == [1, 1, 0]
    assert not native.is_available()
    assert [str(w.message).split(":")[0] for w in caught] == ["no native library (it was not built)"]


@pytest.mark.skipif(not HAS_TOOLS, reason="there is no library to refuse")
@pytest.mark.usefixtures("fresh_loader")
def test_a_library_of_other_sources_is_not_called(monkeypatch):
    monkeypatch.setattr(native, "ABI_VERSION", native.ABI_VERSION + 1)
    with pytest.warns(RuntimeWarning, match="built from other sources"):
        assert not native.is_available()
