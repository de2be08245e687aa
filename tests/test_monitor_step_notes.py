"""What gives reason to speak is told of once: a mismatch before it ends the run, memory before it is gone."""

import pytest
from pydantic import ValidationError

from srpo_fast.config import LossConfig
from srpo_fast.monitor.step_notes import WARM_UP, StepNotes


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


def test_host_memory_that_grows_after_the_first_steps_is_told_of_once():
    notes, held = StepNotes(LossConfig()), [*range(10, 10 + WARM_UP), 30.0, 36.0, 38.0, 50.0]
    told = {step: list(notes.on(step, {"memory/host_gib": gib})) for step, gib in enumerate(held)}
    assert [step for step, texts in told.items() if texts] == [WARM_UP + 2]
    assert "holds 38.0 GiB of host memory, 3 steps ago 29.0" in told[WARM_UP + 2][0]
