"""The rollout engine: vLLM in our process, one engine a tensor-parallel group."""

import gc
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from torch import nn

from srpo_fast import deadline
from srpo_fast.batch import Completion, Prompt
from srpo_fast.config import RolloutConfig
from srpo_fast.expected_lengths import ExpectedLengths
from srpo_fast.model_limits import BLOCK
from srpo_fast.parallel import Parallel
from srpo_fast.rollout import vllm_touch_points
from srpo_fast.rollout.image_inputs import ImageInputs
from srpo_fast.rollout.phases import CudaMemory, OnePhase, Phases, TwoPhases, require_device

Progress = Callable[[int], object]  # told how many more completions are done
Done = Callable[[int, tuple[Completion, ...]], object]  # given a prompt's place in the call and its completions
AT_ONCE = 16  # prompts that a stream hands in together: their images are encoded in one go


class StaleEngine(RuntimeError):
    """Sampling was asked of weights that are not the policy's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to sample; `stream` names the draw, so that no two uses of a prompt share random numbers."""

    samples: int  # completions a prompt
    temperature: float  # 0: greedy
    max_tokens: int
    stream: tuple[int | str, ...]  # for example (seed, "rollout", step)
    finish_share: float = 1.0  # an engine stops when this share of its completions, and a whole group, are done

    def seed(self, question_id: str, *continued: int) -> int:
        """A function of (run, step, prompt); vLLM adds the sample's number.

        continued: of a completion that an earlier step began, its number and its tokens so far; the step that goes on
        with it draws from a stream of its own.
        """
        digest = hashlib.sha256(repr((*self.stream, question_id, *continued)).encode()).digest()
        return int.from_bytes(digest[:4], "little") >> 1


class RolloutEngine:
    """`policy_version` is that of the weights inside; -1 until the first sync (weight_sync.py).

    `phases`: the trainer tells them that it trains; sampling wakes the engine by itself.
    """

    def __init__(
        self, model_dir: Path, settings: RolloutConfig, *, dtype: str, seed: int, max_prompt_tokens: int,
        banned_ids: tuple[int, ...], decode: Callable[[Sequence[int]], str], images: ImageInputs, parallel: Parallel,
        lengths: ExpectedLengths | None = None,
    ) -> None:  # fmt: skip
        require_device(settings, parallel.device)
        vllm_touch_points.check_version()
        with (
            vllm_touch_points.unchanged_process(),
            vllm_touch_points.plain_linears(parallel.device),
            vllm_touch_points.only_the_kv_cache_sleeps(),
        ):
            from vllm import LLM

            vllm_touch_points.inspect_models_in_process()
            if parallel.device.type == "cpu":
                vllm_touch_points.share_memory_within_the_run()
            self.llm = LLM(
                model=str(model_dir),
                dtype=dtype,
                seed=seed,
                # a captured graph goes on reading where the parameters were before they became the policy's
                enforce_eager=parallel.device.type == "cpu" or settings.weights == "alias",
                tensor_parallel_size=parallel.tp,
                distributed_executor_backend="external_launcher" if parallel.world > 1 else None,
                max_model_len=max_prompt_tokens + settings.max_tokens,
                max_num_seqs=settings.max_num_seqs,
                # a prompt cut in two would draw from its random numbers twice, which a CPU generator cannot take back
                enable_chunked_prefill=parallel.device.type != "cpu",
                max_num_batched_tokens=max(8192, max_prompt_tokens + settings.max_tokens),
                kv_cache_memory_bytes=int(settings.kv_cache_gib * 2**30),
                # all that is left of its meaning: a share of the GPU that has to be free now, beside the policy
                gpu_memory_utilization=0.01,
                enable_sleep_mode=settings.kv_cache == "sleeps",
                block_size=BLOCK,
                logprobs_mode="processed_logprobs",  # of the distribution really sampled from
                generation_config="vllm",  # ours alone decide, not the directory's sampling defaults
                use_tqdm_on_load=False,
                **images.options,
            )
        self.phases: Phases = OnePhase()
        if settings.kv_cache == "sleeps":
            self.phases = TwoPhases(vllm_touch_points.EngineMemory(self.llm), CudaMemory(parallel.device))
        self.policy_version = -1
        self.lengths = lengths or ExpectedLengths()
        self.decode = decode
        self._bans = dict.fromkeys(banned_ids, -100.0)
        self._images, self._parallel = images, parallel

    def parameters(self) -> dict[str, nn.Parameter]:
        """This rank's part of the model, live, by vLLM's names: what a weight sync writes into."""
        return vllm_touch_points.parameters_of(self.llm)

    def weights_changed(self, policy_version: int) -> None:
        """What was computed with the old weights is forgotten, and the images' features give their memory back."""
        self.llm.llm_engine.reset_encoder_cache()
        forgotten = self.llm.reset_prefix_cache()
        assert forgotten, "vLLM kept its prefix cache: a request is still under way"
        self.policy_version = policy_version

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, policy_version: int, progress: Progress | None = None,
        done: Done | None = None,
    ) -> list[tuple[Completion, ...]]:  # fmt: skip
        """`sampling.samples` completions of every prompt, in the prompts' order.

        done: called between two steps of the engine with a prompt's completions as soon as all of them are there.
        Raises StaleEngine when the weights inside are not of `policy_version`.
        """
        self.require_version(policy_version)
        if not prompts:
            return []
        requests, parameters = self.requests(prompts, sampling)
        self.phases.begin_sampling()  # the policy's vision tower needs no room any more
        bar = False if progress is None else _report_to(progress)
        found: dict[int, tuple[Completion, ...]] = {}

        def finished(place: int, output: Any) -> None:
            found[place] = tuple(self.completion(c) for c in output.outputs)
            if done is not None:
                done(place, found[place])

        with vllm_touch_points.each_finished(self.llm, finished):
            self.llm.generate(requests, parameters, use_tqdm=bar)
        return [found[place] for place in range(len(prompts))]

    def require_version(self, policy_version: int) -> None:
        """Raises StaleEngine when the weights inside are not of `policy_version`."""
        if policy_version != self.policy_version:
            raise StaleEngine(f"the engine holds policy version {self.policy_version}, asked for {policy_version}")

    def requests(self, prompts: Sequence[Prompt], sampling: Sampling) -> tuple[list[dict[str, Any]], list[Any]]:
        """What vLLM is asked: a request and its SamplingParams for every prompt."""
        return self.requests_of(prompts), [
            self.sampling_params(sampling, seed=sampling.seed(p.question.id)) for p in prompts
        ]

    def requests_of(self, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
        """Of every prompt its tokens and images, as vLLM wants them."""
        pairs = zip(prompts, self._images.of(prompts), strict=True)
        return [{"prompt_token_ids": list(prompt.engine_token_ids)} | images for prompt, images in pairs]

    def close(self) -> None:
        """Ends the engine. vLLM takes the default process group along, so nothing collective may follow."""
        del self.llm, self.phases
        gc.collect()

    def stream(self, prompts: Iterable[Prompt], sampling: Sampling, ahead: int) -> Iterator[tuple[Prompt, Completion]]:
        """A completion of every prompt, as they finish; `prompts` is read at most `ahead`, or AT_ONCE, beyond those.

        The prompts come back without their pixels, of which there would be many.
        """
        prompts, under_way = iter(prompts), dict[str, Prompt]()
        while True:
            while len(under_way) + AT_ONCE <= max(ahead, AT_ONCE) and (some := list(islice(prompts, AT_ONCE))):
                requests, parameters = self.requests(some, sampling)
                self.phases.begin_sampling()
                names = self.llm.enqueue(requests, parameters, use_tqdm=False)
                under_way |= zip(map(vllm_touch_points.output_name, names), map(_without_pixels, some), strict=True)
            if not under_way:
                return
            deadline.progress()
            for output in self.llm.llm_engine.step():
                if output.finished:
                    yield under_way.pop(output.request_id), self.completion(output.outputs[0])

    def sampling_params(self, sampling: Sampling, *, seed: int) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            n=sampling.samples,
            temperature=sampling.temperature,
            max_tokens=sampling.max_tokens,
            seed=seed,
            logprobs=0,  # of the sampled token only
            logit_bias=self._bans,
            detokenize=False,  # we decode a whole completion once, not a token at a time
        )

    def completion(self, output: Any) -> Completion:
        token_ids = tuple(output.token_ids)
        return Completion(
            token_ids=token_ids,
            rollout_logprobs=logprobs_of(token_ids, output.logprobs),
            text=self.decode(token_ids),
            is_finished=output.finish_reason == "stop",
            policy_version=self.policy_version,
        )


def logprobs_of(token_ids: Sequence[int], logprobs: Any) -> tuple[float, ...]:
    """The sampled tokens' own, of what vLLM gives for each position."""
    return tuple(step[token].logprob for step, token in zip(logprobs, token_ids, strict=True))


def _without_pixels(prompt: Prompt) -> Prompt:
    return replace(prompt, pixel_values=prompt.pixel_values[:0].clone())


def _report_to(progress: Progress) -> Any:
    """vLLM drives a tqdm; this is one that only tells how far it is."""
    from tqdm import tqdm

    class Silent(tqdm):  # type: ignore[type-arg]
        def update(self, n: float | None = 1) -> bool | None:
            if self.desc == "Processed prompts":  # another bar counts prompts as they are handed in
                progress(int(n or 0))
            return super().update(n)

    return lambda *args, **kwargs: Silent(*args, **kwargs | {"file": io.StringIO()})
