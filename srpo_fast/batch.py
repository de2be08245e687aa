"""The data that flows through a step, as frozen dataclasses. Read this file first.

Question -> Prompt -> Group of Completions -> Score -> TrainingSequence -> MicroBatch

Shape letters: P prompts, G group size, T packed tokens of a micro-batch, S sequences in it, L tokens of one sequence,
I images, D hidden size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One item of a data set, before any template or tokenizer.

    Example: Question(id="train-17", text="<image>What is the sum of the digits?", images=(<28x112>,), answer="9")
    """

    id: str
    text: str  # one "<image>" mark for every image, in order
    images: tuple[Image.Image, ...]  # RGB, already of a size the model accepts (images.py)
    answer: str  # the ground truth
    image_files: tuple[Path | None, ...] = ()  # absolute, as read, an entry an image; None: bytes, or drawn
    descriptions: tuple[str | None, ...] = ()  # in words, for models that see no images; an entry an image, or none


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A question under the chat template, tokenized once for engine and policy alike."""

    question: Question
    engine_token_ids: tuple[int, ...]  # one <|image_pad|> an image: vLLM expands it itself
    token_ids: Tensor  # [L] int64, every image expanded to its merged patches
    position_ids: Tensor  # [3, L] int64, M-RoPE (time, height, width)
    pixel_values: Tensor  # [patches, channels * 2 * 14 * 14] fp32; no rows without an image
    image_grid_thw: Tensor  # [I, 3] int64, in patches


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What the engine sampled after a prompt."""

    token_ids: tuple[int, ...]  # the end-of-turn token included when the model wrote one
    rollout_logprobs: tuple[float, ...]  # the engine's, one a token, at the sampling temperature
    text: str  # special tokens removed
    is_finished: bool  # False: cut at the token limit
    policy_version: int  # optimizer steps the weights had seen that sampled its last token
    token_versions: tuple[int, ...] = ()  # the same of every token, where an earlier step began it; else empty

    def is_open(self, max_tokens: int) -> bool:
        """Whether sampling was ended before the completion was."""
        return not self.is_finished and len(self.token_ids) < max_tokens

    def extended(
        self, new_ids: Sequence[int], logprobs: Sequence[float], *, decode: Callable[[Sequence[int]], str],
        is_finished: bool, policy_version: int,
    ) -> "Completion":  # fmt: skip
        """With the tokens that weights of policy_version sampled after it; itself where there are none."""
        if not new_ids:
            return self
        token_ids = (*self.token_ids, *new_ids)
        before = self.token_versions or (self.policy_version,) * len(self.token_ids)
        return Completion(
            token_ids=token_ids, rollout_logprobs=(*self.rollout_logprobs, *logprobs), text=decode(token_ids),
            is_finished=is_finished, policy_version=policy_version,
            token_versions=(*before, *(policy_version,) * len(new_ids)) if before else (),
        )  # fmt: skip


NOTHING = Completion(token_ids=(), rollout_logprobs=(), text="", is_finished=False, policy_version=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The reward of one completion, in parts, with the reasons for what it did not earn (rewards/)."""

    total: float
    format: float
    accuracy: float
    effectiveness: float
    reflection_format: float
    length: float
    first_correct: bool
    second_correct: bool
    reasons: tuple[str, ...]
    failure: str | None = None  # why it could not be graded, in one line; None: it could


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The G completions of one prompt; advantages are relative within it. No scores: some completions are open."""

    prompt: Prompt
    completions: tuple[Completion, ...]
    scores: tuple[Score, ...]
    engine: int = 0  # which of the world's engines sampled them


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSequence:
    """One prompt and one completion, with everything the loss needs. SFT and RL share it."""

    prompt: Prompt
    completion_ids: tuple[int, ...]
    loss_mask: tuple[bool, ...]  # completion tokens that count
    advantage: float  # SFT: 1
    rollout_logprobs: tuple[float, ...]  # SFT: zeros, unread
    token_weight: float  # share of each loss token in the global loss, set from the global counts
    older_tokens: int = 0  # so many of the first completion tokens were sampled by weights of an earlier step


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Packed sequences, next-token aligned: row t of every [T] field is about predicting labels[t] from row t.

    A sequence whose prompt is shared has only its completion here, and names the rows of its prompt as keys.
    """

    input_ids: Tensor  # [T] int64
    position_ids: Tensor  # [3, T] int64
    cu_seqlens: Tensor  # [S + 1] int32, FlashAttention's convention
    max_seqlen: int
    image_rows: Tensor  # [M] int64, packed positions of image tokens
    feature_rows: Tensor  # [M] int64, their rows in the image features of the update
    row_offsets: Tensor  # [S + 1] int32, loss rows row_offsets[s] to row_offsets[s + 1] are those of sequence s
    loss_rows: Tensor  # [R] int64, packed positions whose label counts; all fields below are [R]
    labels: Tensor  # [R] int64
    advantages: Tensor  # [R] fp32
    rollout_logprobs: Tensor  # [R] fp32
    token_weights: Tensor  # [R] fp32
    old_logprobs: Tensor | None = None  # [R] fp32, only when a step makes several updates
    ref_logprobs: Tensor | None = None  # [R] fp32, only with a KL term
    is_fresh: Tensor | None = None  # [R] bool, sampled by the weights of this step; None: all are
    keys: "Keys | None" = None  # only where prompts are shared: without, a sequence attends to its own rows

    def to(self, device: torch.device) -> "MicroBatch":
        values = {name: getattr(self, name) for name in self.__slots__}
        moved: dict[str, Any] = {k: v.to(device) if isinstance(v, Tensor | Keys) else v for k, v in values.items()}
        return MicroBatch(**moved)

    def with_loss_rows(self, chosen: Tensor) -> "MicroBatch":
        """Only the chosen [R] bool of the loss rows; sequences keep their numbers, some without rows."""
        counts = torch.bincount(self.sequence_of_row()[chosen], minlength=len(self.row_offsets) - 1)
        rows = {name: getattr(self, name) for name in _FIELDS_OF_ROWS}
        return replace(
            self,
            row_offsets=torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int(),
            **{name: values[chosen] for name, values in rows.items() if values is not None},
        )

    def sequence_of_row(self) -> Tensor:
        """[R] int64."""
        return torch.arange(len(self.row_offsets) - 1).repeat_interleave(self.row_offsets.diff())


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The rows that sequences attend to, one sequence after the other; a sequence's own rows are the last of them."""

    rows: Tensor  # [K] int64
    cu_seqlens: Tensor  # [S + 1] int32, of `rows`
    max_seqlen: int

    def to(self, device: torch.device) -> "Keys":
        return Keys(rows=self.rows.to(device), cu_seqlens=self.cu_seqlens.to(device), max_seqlen=self.max_seqlen)


_FIELDS_OF_ROWS = (
    "loss_rows", "labels", "advantages", "rollout_logprobs", "token_weights", "old_logprobs", "ref_logprobs",
    "is_fresh",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Transitions:
    """Counts of completions by (first answer, second answer): r right, w wrong."""

    rr: int
    wr: int
    rw: int
    ww: int

    @classmethod
    def of(cls, scores: "list[Score] | tuple[Score, ...]") -> "Transitions":
        pairs = [(s.first_correct, s.second_correct) for s in scores]
        return cls(
            rr=pairs.count((True, True)),
            wr=pairs.count((False, True)),
            rw=pairs.count((True, False)),
            ww=pairs.count((False, False)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Accuracy on the held-out questions, as fractions. None: the policy gave one answer."""

    num_questions: int
    acc1: float  # first answer, one completion a question sampled at temperature 1
    acc2: float | None  # second answer, likewise
    greedy_acc1: float
    greedy_acc2: float | None
    transitions: Transitions | None  # of the sampled completions
