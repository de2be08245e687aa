"""A prediction for eyes, in 80 columns, and for programs."""

import dataclasses
import json
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from srpo_fast.estimate import parameters
from srpo_fast.estimate.job import Job
from srpo_fast.estimate.memory import ASLEEP, GIB, PhaseMemory
from srpo_fast.estimate.prediction import Prediction
from srpo_fast.estimate.step_time import StepTime


def as_text(prediction: Prediction) -> RenderableType:
    parts: list[RenderableType] = [
        Text(_headline(prediction.job)),
        "",
        memory_table(prediction),
        Text(_beside(prediction)),
    ]
    if prediction.time and prediction.roofline:
        parts += ["", time_table(prediction.time, prediction.roofline), Text(_rates(prediction, prediction.time))]
    parts += ["", Text(_assumed(prediction.job)), "", Text(f"Predicted: {prediction.verdict.words}", style="bold")]
    return Group(*parts)


def memory_table(prediction: Prediction) -> Table:
    """A row a part, a column a phase."""
    table = _table("Predicted memory of the fullest rank, GiB")
    table.add_column("")
    for phase in prediction.phases:
        table.add_column(phase.phase, justify="right")
    by_phase = [dict(phase.parts) for phase in prediction.phases]
    for name in _part_names(prediction.phases):
        table.add_row(name, *(f"{parts[name] / GIB:.1f}" if name in parts else "" for parts in by_phase))
    table.add_section()
    table.add_row(f"of {prediction.job.memory_gib:g}", *(f"{phase.total / GIB:.1f}" for phase in prediction.phases))
    if prediction.job.layout.pp > 1:
        table.add_row("pipeline stage", *(str(phase.stage) for phase in prediction.phases))
    return table


def time_table(time: StepTime, roofline: StepTime) -> Table:
    """A row a part of the step: under the assumptions, and with everything at the data sheet's figures."""
    table = _table("Predicted seconds of a step")
    for heading in ("", "", "bound by"):
        table.add_column(heading)
    for heading in ("expected", "roofline"):
        table.add_column(heading, justify="right")
    for part, ideal in zip(time.parts, roofline.parts, strict=True):
        table.add_row(part.phase, part.name, part.limit, f"{part.seconds:.2f}", f"{ideal.seconds:.2f}")
    table.add_section()
    table.add_row("step", "", "", f"{time.seconds:.1f}", f"{roofline.seconds:.1f}")
    return table


def as_json(prediction: Prediction) -> str:
    """One JSON document in a line; everything under `predicted` is."""
    p, job = prediction, prediction.job
    verdict = p.verdict
    document = {
        "model": dataclasses.asdict(job.shape) | {"parameters": parameters.total(job.shape)},
        "layout": {name: getattr(job.layout, name) for name in ("gpus", "tp", "pp", "cp", "dp", "chunks", "engines")},
        "gpu": dataclasses.asdict(job.gpu) | {"memory_gib": job.memory_gib},
        "host_gib_of_a_machine": job.host_gib,
        "recompute": job.recompute,
        "sequence_parallel": job.sequence_parallel,
        "distributed_optimizer": job.distributed_optimizer,
        "assumptions": dataclasses.asdict(job.assumptions),
        "predicted": {
            "memory_gib": {phase.phase: _phase(phase) for phase in p.phases},
            "host_gib_a_machine": {name: size / GIB for name, size in p.host.items()},
            "kv_cache": {"tokens": p.kv_tokens, "concurrency": p.concurrency},
            "seconds": _time(job, p.time),
            "roofline_seconds": _time(job, p.roofline),
            "fits": verdict.fits,
            "spare_gib": verdict.spare_gib,
            "host_spare_gib": verdict.host_spare_gib,
            "next_knob": dict(verdict.next_knob.values) if verdict.next_knob else None,
            "gpus_that_fit": verdict.gpus_that_fit,
            "verdict": verdict.words,
        },
    }
    return json.dumps(document)


def _phase(phase: PhaseMemory) -> dict[str, Any]:
    return {
        "stage": phase.stage, "total": phase.total / GIB, "parts": {name: size / GIB for name, size in phase.parts}
    }  # fmt: skip


def _time(job: Job, time: StepTime | None) -> dict[str, Any] | None:
    if time is None:
        return None
    return {
        "step": time.seconds,
        "parts": [dataclasses.asdict(part) for part in time.parts],
        "phases": {phase: time.of(phase) for phase in ("rollout", "update", "sync")},
        "update_flops": time.update_flops,
        "update_mfu": time.update_mfu,
        "tokens_per_gpu_second": time.tokens_per_gpu_second,
        "run_hours": _hours(job, time),
    }


def _hours(job: Job, time: StepTime) -> float:
    return job.config.steps * time.seconds / 3600


def _headline(job: Job) -> str:
    layout = job.layout
    ways = f"tp {layout.tp}, pp {layout.pp}, dp {layout.dp}" + (f", cp {layout.cp}" if layout.cp > 1 else "")
    billions = parameters.total(job.shape) / 1e9
    return f"{billions:.2f} B parameters, {layout.gpus} x {job.gpu.name} of {job.memory_gib:g} GiB: {ways}"


def _beside(prediction: Prediction) -> str:
    host = sum(prediction.host.values()) / GIB
    largest = max(prediction.host, key=lambda name: prediction.host[name])
    return (
        f"Predicted: an engine's KV cache holds {prediction.kv_tokens:,.0f} tokens, {prediction.concurrency:.0f} of "
        f"its completions at once; {host:.0f} GiB of host memory a machine, mostly {largest}.{_asleep(prediction)}"
    )


def _asleep(prediction: Prediction) -> str:
    """The peaks between which a cache changes hands."""
    rollout = prediction.job.config.rollout
    if rollout.kv_cache != "sleeps":
        return ""
    peaks = {
        asleep: max(phase.total for phase in prediction.phases if (phase.phase in ASLEEP) == asleep) / GIB
        for asleep in (False, True)
    }
    return (
        f" Its {rollout.kv_cache_gib:g} GiB sleep while the policy trains, which needs {peaks[True]:.1f} GiB; the rest "
        f"needs {peaks[False]:.1f}. What waking takes is not in the seconds."
    )


def _rates(prediction: Prediction, time: StepTime) -> str:
    job = prediction.job
    return (
        f"Predicted: {time.tokens_per_gpu_second:,.0f} tokens/s a GPU, MFU of the update {time.update_mfu:.0%}, "
        f"{_hours(job, time):.0f} h for {job.config.steps} steps without rewards, evaluation and saving."
    )


def _assumed(job: Job) -> str:
    a = job.assumptions
    return (
        f"Assumed (--assume name=value): {a.prompt_tokens:.0f} prompt_tokens with {a.image_tokens:.0f} image_tokens, "
        f"{a.completion_tokens:.0f} completion_tokens; memory with full micro-batches and largest images. "
        f"Of the data sheet: matmul_share {a.matmul_share:g}, attention_share {a.attention_share:g}, bandwidth_share "
        f"{a.bandwidth_share:g}, link_share {a.link_share:g}; {a.decode_overhead_ms:g} decode_overhead_ms"
        f"{_host_link(job)}."
    )


def _host_link(job: Job) -> str:
    """Where it matters."""
    return f", {job.assumptions.pcie_gbs:g} pcie_gbs to the host" if job.config.optimizer.offload else ""


def _part_names(phases: tuple[PhaseMemory, ...]) -> list[str]:
    """Of all phases, in their order, what comes with every phase last."""
    names = dict.fromkeys(name for phase in phases for name, _ in phase.parts)
    last = [name for name in ("fragmentation", "outside torch") if name in names]
    return [name for name in names if name not in last] + last


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), show_edge=False)
