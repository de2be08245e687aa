"""The rollout engine: vLLM in our process."""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from srpo_fast import deadline
from srpo_fast.config import RolloutConfig
from srpo_fast.expected_lengths import ExpectedLengths
from srpo_fast.model_limits import BLOCK
from srpo_fast.parallel import Parallel
from srpo_fast.rollout import vllm_touch_points
from srpo_fast.rollout.engine import Draw, Drawn, Request, StaleEngine
from srpo_fast.rollout.image_inputs import ImageInputs
from srpo_fast.rollout.phases import CudaMemory, OnePhase, Phases, TwoPhases, require_device

AT_ONCE = 16  # requests handed in together at most, where some are under way: their images are encoded in one go

Fill = Callable[[Mapping[str, nn.Parameter]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _UnderWay:
    """One of vLLM's requests."""

    request: int
    draw: int
    asked: Draw


class VllmEngine:
    """A RolloutEngine (engine.py)."""

    def __init__(
        self, model_dir: Path, settings: RolloutConfig, *, dtype: str, seed: int, max_prompt_tokens: int,
        banned_ids: tuple[int, ...], decode: Callable[[Sequence[int]], str], images: ImageInputs, parallel: Parallel,
        fill: Fill | None = None, lengths: ExpectedLengths | None = None,
    ) -> None:  # fmt: skip
        """fill: puts weights into the engine's parameters, or other memory beneath them, before anything is captured
        that knows their addresses; None: they are read from model_dir."""
        require_device(settings, parallel.device)
        vllm_touch_points.check_version()
        with ExitStack() as starting:
            starting.enter_context(vllm_touch_points.unchanged_process())
            starting.enter_context(vllm_touch_points.plain_linears(parallel.device))
            starting.enter_context(vllm_touch_points.only_the_kv_cache_sleeps())
            starting.enter_context(vllm_touch_points.memory_shared_within_the_run(parallel.device))
            if fill is not None:
                starting.enter_context(vllm_touch_points.weights_by(fill))
            from vllm import LLM

            vllm_touch_points.inspect_models_in_process()
            vllm_touch_points.stay_on_this_stream()
            self.llm = LLM(
                model=str(model_dir),
                dtype=dtype,
                seed=seed,
                load_format="auto" if fill is None else vllm_touch_points.FILLED,
                enforce_eager=parallel.device.type == "cpu",
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
                # logits are fp32, as the policy's; a CPU would convert the head's weight for each token
                hf_overrides={} if parallel.device.type == "cpu" else {"head_dtype": "float32"},
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
        self.max_num_seqs = settings.max_num_seqs
        self._decode, self._images = decode, images
        self._bans = dict.fromkeys(banned_ids, -100.0)

    def parameters(self) -> dict[str, nn.Parameter]:
        return vllm_touch_points.parameters_of(self.llm)

    def weights_changed(self, policy_version: int) -> None:
        """The images' features give their memory back, too."""
        self.llm.llm_engine.reset_encoder_cache()
        forgotten = self.llm.reset_prefix_cache()
        assert forgotten, "vLLM kept its prefix cache: a request is still under way"
        self.policy_version = policy_version

    def generate(
        self, requests: Iterable[Request], *, policy_version: int, ahead: int | None = None,
        is_enough: Callable[[], bool] = lambda: False,
    ) -> Iterator[Drawn]:  # fmt: skip
        if policy_version != self.policy_version:
            raise StaleEngine(f"the engine holds policy version {self.policy_version}, asked for {policy_version}")
        feed, under_way = _Feed(requests, ahead), dict[str, _UnderWay]()
        while self._hand_in(feed, under_way):
            deadline.progress()
            for output in self.llm.llm_engine.step():
                if output.finished:
                    yield self._drawn(under_way.pop(output.request_id), output.outputs)
            if feed.is_read and is_enough():
                for name, output in vllm_touch_points.cut_short(self.llm):
                    yield self._drawn(under_way[name], [output])
                return

    def close(self) -> None:
        """Ends the engine. vLLM takes the default process group along, so nothing collective may follow."""
        del self.llm, self.phases
        gc.collect()

    def inputs(self, requests: Sequence[Request]) -> tuple[list[dict[str, Any]], list[Any]]:
        """What vLLM is asked: its prompt and SamplingParams of every draw."""
        images = self._images.of([request.prompt for request in requests])
        prompts, parameters = [], []
        for request, of_prompt in zip(requests, images, strict=True):
            for draw in request.draws:
                token_ids = [*request.prompt.engine_token_ids, *draw.begun.token_ids]
                prompts.append({"prompt_token_ids": token_ids} | of_prompt)
                parameters.append(self._sampling_params(draw, request.temperature))
        return prompts, parameters

    def _hand_in(self, feed: "_Feed", under_way: dict[str, _UnderWay]) -> bool:
        """Whether anything is under way then."""
        while requests := feed.take(self.llm.llm_engine.get_num_unfinished_requests()):
            inputs = self.inputs([request for _, request in requests])
            self.phases.begin_sampling()  # after the first images are encoded, which takes room
            names = self.llm.enqueue(*inputs, use_tqdm=False)
            draws = [_UnderWay(request=n, draw=d, asked=draw) for n, r in requests for d, draw in enumerate(r.draws)]
            under_way |= zip(map(vllm_touch_points.output_name, names), draws, strict=True)
        return bool(under_way)

    def _drawn(self, of: _UnderWay, outputs: Sequence[Any]) -> Drawn:
        completions = tuple(
            of.asked.begun.extended(
                output.token_ids, logprobs_of(output.token_ids, output.logprobs), decode=self._decode,
                is_finished=output.finish_reason == "stop", policy_version=self.policy_version,
            )
            for output in outputs
        )  # fmt: skip
        return Drawn(request=of.request, draw=of.draw, completions=completions)

    def _sampling_params(self, draw: Draw, temperature: float) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            n=draw.samples,
            temperature=temperature,
            max_tokens=draw.max_tokens,
            seed=draw.seed,
            logprobs=0,  # of the sampled token only
            logit_bias=self._bans,
            detokenize=False,  # we decode a whole completion once, not a token at a time
        )


class _Feed:
    """The requests of a call, read when there is room for them."""

    def __init__(self, requests: Iterable[Request], ahead: int | None) -> None:
        self._left, self._ahead = enumerate(requests), ahead
        self.is_read = False

    def take(self, under_way: int) -> list[tuple[int, Request]]:
        """What is to be handed in now, each with its place in the call; under_way: completions."""
        if self._ahead is None:
            self.is_read, requests = True, list(self._left)
            return requests
        free = self._ahead - under_way
        requests = []
        if free < self._ahead // 8:  # a few at a time have their images encoded together
            return requests
        while free > 0 and len(requests) < AT_ONCE and not self.is_read:
            if (following := next(self._left, None)) is None:
                self.is_read = True
            else:
                requests.append(following)
                free -= sum(draw.samples for draw in following[1].draws)
        return requests


def logprobs_of(token_ids: Sequence[int], logprobs: Any) -> tuple[float, ...]:
    """The sampled tokens' own, of what vLLM gives for each position."""
    return tuple(step[token].logprob for step, token in zip(logprobs, token_ids, strict=True))
