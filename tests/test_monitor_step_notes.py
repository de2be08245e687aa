"""A mismatch is told of once, above its threshold and before it ends the run."""

import pytest
from pydantic import ValidationError

from srpo_fast.config import LossConfig
from srpo_fast.monitor.step_notes import StepNotes


def notes_of(settings: LossConfig, *mismatches: float) -> list[str]:
    notes = StepNotes(settings)
    return [text for step, m in enumerate(mismatches) for text in notes.on(step, {"rollout/mismatch_abs": m})]


def test_a_mismatch_above_half_of_the_stop_is_told_of_once():
    (note,) = notes_of(LossConfig(mismatch_stop=0.05), 0.02, 0.026, 0.03)
    assert note.startswith("step 1: the engine's log-probs are 2.6e-02 from the policy's")
    assert "loss.mismatch_stop=5e-02" in note


def test_the_threshold_can_be_set_below_the_stop_only():
    assert notes_of(LossConfig(mismatch_warn=0.04), 0.03) == []
    assert len(notes_of(LossConfig(mismatch_warn=0.01), 0.03)) == 1
    with pytest.raises(ValidationError, match=r"mismatch_warn \(0\.05\) must be less than mismatch_stop \(0\.05\)"):
        LossConfig(mismatch_warn=0.05)


def test_a_step_without_an_update_says_nothing():
    assert list(StepNotes(LossConfig()).on(0, {"train/updates": 0.0})) == []
