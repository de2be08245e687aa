"""A vLLM engine for conversations: a model that is asked, not trained."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from srpo_fast.config import LocalTeacherConfig, UserError
from srpo_fast.image_marks import MAX_IMAGES
from srpo_fast.rollout import vllm_touch_points


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    messages: list[dict[str, Any]]  # of OpenAI's form
    schema: dict[str, Any] | None  # of the JSON to say; the grammar holds the model to it
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """The engine refuses the conversation."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    text: str
    is_finished: bool  # False: cut at the token limit
    prompt_tokens: int
    completion_tokens: int


class ChatEngine:
    """Talks by the chat template of its model, in messages of OpenAI's form. One a process at a time."""

    def __init__(self, settings: LocalTeacherConfig, seed: int) -> None:
        """UserError if there is no model directory at settings.path."""
        if not (settings.path / "config.json").is_file():
            raise UserError(f"expected a Hugging Face model directory, found no config.json in {settings.path}")
        vllm_touch_points.check_version()
        with vllm_touch_points.unchanged_process():
            from vllm import LLM

            vllm_touch_points.inspect_models_in_process()
            self._llm: Any = LLM(
                model=str(settings.path),
                dtype=settings.dtype,
                seed=seed,
                enforce_eager=not torch.cuda.is_available(),
                tensor_parallel_size=settings.tp,
                max_model_len=settings.max_prompt_tokens + settings.max_tokens,
                max_num_seqs=settings.max_num_seqs,
                kv_cache_memory_bytes=int(settings.kv_cache_gib * 2**30),
                gpu_memory_utilization=0.01,  # all that is left of its meaning: what has to be free now
                limit_mm_per_prompt={"image": MAX_IMAGES, "video": 0},
                generation_config="vllm",
                # blanks without end are valid JSON too; on a request vLLM ignores this flag
                structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
                use_tqdm_on_load=False,
            )
        self._settings = settings

    def chat(self, talks: Sequence[Talk]) -> list[Said | Unfit]:
        """What the model says to each, or why it cannot be asked."""
        from vllm.exceptions import VLLMClientError

        try:
            outputs = self._llm.chat(
                [talk.messages for talk in talks], [self._sampling(talk) for talk in talks], use_tqdm=False
            )
        except VLLMClientError as error:  # one of them is at fault, mostly by its length
            if len(talks) == 1:
                return [Unfit(reason=str(error))]
            half = len(talks) // 2
            return self.chat(talks[:half]) + self.chat(talks[half:])
        return [
            Said(
                text=output.outputs[0].text,
                is_finished=output.outputs[0].finish_reason != "length",
                prompt_tokens=len(output.prompt_token_ids),
                completion_tokens=len(output.outputs[0].token_ids),
            )
            for output in outputs
        ]

    def close(self) -> None:
        del self._llm
        gc.collect()

    def _sampling(self, talk: Talk) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        grammar = talk.schema and StructuredOutputsParams(json=talk.schema)
        return SamplingParams(
            temperature=self._settings.temperature,
            max_tokens=self._settings.max_tokens,
            seed=talk.seed,
            structured_outputs=grammar,
        )
