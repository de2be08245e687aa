"""Section: a rank's weights from the trainer's layout into the engine's."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from benchmarks.ceilings import copy_probe
from benchmarks.gpu_session.journal import Row
from benchmarks.gpu_session.operands import all_ms, times
from benchmarks.gpu_session.scale import Scale
from benchmarks.sync_shapes import sync_copies
from benchmarks.timing import Spread
from srpo_kernels import reference
from srpo_kernels.reference import RowCopy, RowOrder
from srpo_kernels.sync_copy import copy_table


def sync(scale: Scale) -> Iterator[Row]:
    """In one launch, by torch's foreach over views, and in one copy a tensor; bytes a second beside a plain copy's."""
    copy = copy_probe(scale.copied_bytes, scale.device)
    for model, ranks in scale.synced:
        copies = sync_copies(model, ranks, scale.dtype, scale.device)
        table, lists = copy_table(copies), [_lists(copies, order) for order in (RowOrder.PLAIN, RowOrder.STACK)]
        runs = {
            "one_launch": table.run,
            "foreach": lambda lists=lists: [torch._foreach_copy_(*pair) for pair in lists],
            "copy_each": lambda copies=copies: reference.sync_copy(copies),
        }
        same = {name: _copies_right(run, copies) for name, run in runs.items()}
        seconds = times({**runs, "copy": copy.run}, scale)
        moved, plain = sum(2.0 * c.target.nbytes for c in copies), copy.rate(seconds.pop("copy"))
        rates = {f"{name}_of_copy": moved / Spread.of(seconds[name]).p20 / plain for name in runs}
        yield {
            "model": model, "tp": ranks, "tensors": len(copies), "bytes": moved, "is_native": table.entries is not None,
            "right": same, **all_ms(seconds), **rates,
        }  # fmt: skip


def _lists(copies: Sequence[RowCopy], order: RowOrder) -> tuple[list[Tensor], list[Tensor]]:
    """(targets, sources) of the copies of one order, stacked ones by their queries, keys and values."""
    targets, sources = [], []
    for copy in copies:
        if copy.order is not order:
            continue
        if order is RowOrder.PLAIN:
            targets.append(copy.target)
            sources.append(copy.source)
            continue
        groups = copy.source.unflatten(0, (copy.groups, copy.queries_per_group + 2, copy.head_rows))
        sizes = [copy.groups * copy.head_rows * count for count in (copy.queries_per_group, 1, 1)]
        parts = groups.split([copy.queries_per_group, 1, 1], dim=1)
        sources += parts
        targets += [to.view_as(part) for to, part in zip(copy.target.split(sizes), parts, strict=True)]
    return targets, sources


def _copies_right(run: Callable[[], object], copies: Sequence[RowCopy]) -> bool:
    """Of the first tensor of each order, the layer's stacked heads and its plain output projection."""
    for copy in copies:
        copy.target.zero_()
    run()
    for copy in copies[:2]:
        expected = torch.empty_like(copy.target)
        reference.sync_copy([RowCopy(source=copy.source, target=expected, **_order(copy))])
        if not torch.equal(copy.target, expected):
            return False
    return True


def _order(copy: RowCopy) -> Row:
    return {name: getattr(copy, name) for name in ("order", "head_rows", "queries_per_group", "groups")}
