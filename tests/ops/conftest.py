import pytest
import torch


@pytest.fixture(autouse=True)
def _poison_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.empty returns NaN, or the least integer, so an operation that leaves an element unwritten fails."""
    empty, empty_like = torch.empty, torch.empty_like

    def poison(t: torch.Tensor) -> torch.Tensor:
        if t.dtype == torch.bool:
            return t
        return t.fill_(float("nan") if t.is_floating_point() else torch.iinfo(t.dtype).min)

    monkeypatch.setattr(torch, "empty", lambda *a, **k: poison(empty(*a, **k)))
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: poison(empty_like(*a, **k)))
