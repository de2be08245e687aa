"""fp32 numbers in 16 bits: a master weight as what the model sees and what that lacks, and moments rounded by chance.

All of it is integer arithmetic on the bits of each element by itself, so that ranks which hold copies of a parameter
keep the same bits, however it is cut into shards or slices.
"""

import torch
from torch import Tensor

HALF = 0x8000  # of the last place of a bf16 number, in bits of the fp32 number


def split(master: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest bf16 number, ties to even as copy_ rounds, an int16 remainder, and a bit: of master [n] fp32.

    bits of master = 2**16 * bits of the number + remainder. An even number is the nearest of 65,537 masters, one more
    than 16 bits tell apart: a remainder of half a place means below it, or where the bit is set, above.
    """
    weight = master.bfloat16()
    remainder = master.view(torch.int32) - (weight.view(torch.int16).int() << 16)
    return weight, remainder.to(torch.int16), remainder == HALF


def join(weight: Tensor, remainder: Tensor, above: Tensor) -> Tensor:
    """The inverse of split: fp32 [n]."""
    bits = (weight.view(torch.int16).int() << 16).add_(remainder)
    return bits.add_(above.int() << 16).view(torch.float32)


def with_bit(moment: Tensor, bit: Tensor) -> Tensor:
    """A second moment [n], whose sign is free since it is never negative, with the bit in the sign's place."""
    return torch.where(bit, -moment, moment)


def stochastic(value: Tensor, gradient: Tensor, step: int) -> Tensor:
    """value [n] fp32 as one of the two bf16 numbers beside it, on average over steps the value itself.

    To the nearest, a moving average stands still once a step moves it by less than half a place, 0.2 to 0.4 %: with
    beta = 0.999 a second moment would never fall. Chance is a hash of the element's value, gradient and step: there is
    no random state to save, and none in which ranks could differ.
    """
    bits = value.view(torch.int32)
    up = _hash(bits & 0x7FFFFFFF, gradient.view(torch.int32), step)  # a bit may be in the sign's place
    return ((bits + up) >> 16).to(torch.int16).view(torch.bfloat16)


def _hash(value: Tensor, gradient: Tensor, step: int) -> Tensor:
    """0..65535 [n] int32, as good as independent of value; MurmurHash3's constants, products modulo 2**32."""
    bits = (value * -1640531535).bitwise_xor_(gradient).add_(step * 40503)
    bits.bitwise_xor_(bits >> 16).mul_(-2048144789)
    bits.bitwise_xor_(bits >> 13).mul_(-1028477387)
    return (bits >> 16).bitwise_and_(0xFFFF)
