"""Run under torchrun: both ranks draw from one file, but rank 1's copy of an image is damaged, then gone.

Arguments: a model directory, a file of questions, a folder of images for each rank, a file for the quarantine.
Prints {"drawn": [...], "error": ...} of every rank as the last lines.
"""

import json
import sys
from pathlib import Path

from srpo_fast.config import DEFAULT_CONFIG, ParallelConfig, UserError, load_config
from srpo_fast.parallel import barrier, start, stop
from srpo_fast.prompt_source import PromptSource
from srpo_fast.prompts import PromptEncoder
from srpo_fast.quarantine import Quarantine
from srpo_fast.sources import open_questions

if __name__ == "__main__":
    model, data, *roots, file = map(Path, sys.argv[1:])
    parallel = start(ParallelConfig())
    root = roots[parallel.rank]
    config = load_config(DEFAULT_CONFIG, [f"data.train={data}", f"data.image_root={root}", "data.max_bad_share=0.2"])
    quarantine = Quarantine(file if parallel.is_main else None, "quarantine", config.data.max_bad_share)
    source = PromptSource(
        open_questions(config, "train", quarantine, parallel), PromptEncoder.from_pretrained(model, 60), "answer",
        per_step=6, seed=0, quarantine=quarantine, parallel=parallel,
    )  # fmt: skip
    drawn = []
    for _ in range(4):
        source.start_step()
        drawn.append([prompt.question.id for prompt in source.draw(6)])
    barrier()
    if parallel.rank == 1:
        (root / "5.png").unlink()
    barrier()
    error = None
    try:
        open_questions(config, "train", quarantine, parallel)
    except UserError as refusal:
        error = str(refusal)
    (file.parent / f"rank{parallel.rank}.json").write_text(json.dumps({"drawn": drawn, "error": error}))
    barrier()
    stop()
