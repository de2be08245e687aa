"""How ranks divide the model, and the divisions that cannot be."""

from dataclasses import dataclass

from srpo_fast.config import UserError
from srpo_fast.model_limits import cut_problems
from srpo_fast.model_shape import TextShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """gpus = tp * cp * dp * pp; one engine a tensor-parallel group, so engines = cp * dp * pp."""

    gpus: int
    tp: int
    pp: int
    layers: int
    cp: int = 1
    chunks: int = 1  # layer chunks a stage holds; more than 1: interleaved

    @property
    def dp(self) -> int:
        return self.gpus // (self.tp * self.cp * self.pp)

    @property
    def engines(self) -> int:
        return self.gpus // self.tp

    def layers_of(self, stage: int) -> int:
        """As even as can be; earlier chunks have one more, since the last also has the head."""
        each, left_over = divmod(self.layers, self.pp * self.chunks)
        return sum(each + (stage + chunk * self.pp < left_over) for chunk in range(self.chunks))

    def micro_batches_in_flight(self, stage: int, micro_batches: int) -> float:
        """How many micro-batches' activations of all its layers a stage keeps at most.

        1F1B: the stages after it, and its own. Interleaved: Megatron warms up 2 (pp - stage - 1) + (chunks - 1) pp
        chunks before the first backward pass, each a chunk's share of the stage's layers.
        """
        if self.pp == 1:
            return 1.0
        ahead = float(self.pp - stage)
        if self.chunks > 1:
            ahead = (2 * (self.pp - stage - 1) + (self.chunks - 1) * self.pp + 1) / self.chunks
        return min(float(micro_batches), ahead)


def make_layout(text: TextShape, *, gpus: int, tp: int, pp: int, cp: int = 1, chunks: int = 1) -> Layout:
    """Raises UserError with everything that stands against this layout."""
    if problems := layout_problems(text, gpus=gpus, tp=tp, pp=pp, cp=cp, chunks=chunks):
        raise UserError("; ".join(problems))
    return Layout(gpus=gpus, tp=tp, pp=pp, layers=text.layers, cp=cp, chunks=chunks)


def layout_problems(text: TextShape, *, gpus: int, tp: int, pp: int, cp: int = 1, chunks: int = 1) -> list[str]:
    """One sentence for each reason why policy or engine would refuse; none where they would not."""
    problems = []
    if gpus < 1:
        problems.append(f"expected --gpus of at least 1, got {gpus}")
    elif gpus % (tp * pp * cp):
        ways = f"parallel.tp={tp} x parallel.pp={pp}" + (f" x parallel.cp={cp}" if cp > 1 else "")
        problems.append(f"{ways} does not divide {gpus} GPUs; take a multiple of {tp * pp * cp}")
    return problems + cut_problems(text, tp=tp, chunks=pp * chunks)
