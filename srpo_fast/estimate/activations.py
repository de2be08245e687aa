"""Bytes that the decoder's forward pass keeps for its backward pass, by tensor.

Letters: T tokens on this rank, D hidden size, Q = heads * head_dim, K = kv_heads * head_dim, F feed-forward columns,
t tensor-parallel ranks, e bytes of a number. tests/estimate/test_activations.py counts the tensors that autograd saves.
"""

from srpo_fast.estimate.job import Job, MicroBatchSize


def kept_a_layer(job: Job, batch: MicroBatchSize) -> float:
    """Bytes a layer keeps until its backward pass."""
    if job.recompute == "full":
        return _stream(job, batch)  # its input
    kept = made_in_layer(job, batch)
    return kept - mlp(job, batch) if job.recompute == "selective" else kept


def made_in_layer(job: Job, batch: MicroBatchSize) -> float:
    """Bytes a layer keeps when it recomputes nothing."""
    return _norms(job, batch) + attention(job, batch) + mlp(job, batch)


def rebuilt_in_backward(job: Job, batch: MicroBatchSize) -> float:
    """Bytes of the one layer whose backward pass runs: what it recomputes, and the gradients in flight.

    Most are alive when gate and up part: gradients of both, of the product, less the product itself, which is gone
    (2F), and of the stream before and after (2D).
    """
    text, tp, e = job.shape.text, job.layout.tp, job.bytes_a_weight
    gradients = 2 * batch.tokens * text.ffn * e / tp + 2 * batch.tokens * text.hidden * e
    if job.recompute == "none":
        return gradients
    rebuilt = made_in_layer(job, batch) if job.recompute == "full" else mlp(job, batch)
    return rebuilt + gradients


def mlp(job: Job, batch: MicroBatchSize) -> float:
    """(2F gate and up, F their product) T e / t; on a CPU also F silu of the gate, F up plus Megatron's offset of 0."""
    columns = (5 if job.gpu.is_cpu else 3) * job.shape.text.ffn
    return columns * batch.tokens * job.bytes_a_weight / job.layout.tp


def attention(job: Job, batch: MicroBatchSize) -> float:
    """(3Q + 3K) T e / t: fused qkv (whose values are read in place), turned queries and keys, the output.

    FlashAttention keeps these and fp32 log-sums of every head and row; padded attention keeps padded copies of queries,
    keys, values and output besides. Context parallelism gathers keys and values of all ranks: 2K (c - 1). Completions
    that share a prompt each take copies of its keys and values.
    """
    text, tp, e = job.shape.text, job.layout.tp, job.bytes_a_weight
    columns = 3 * text.hidden + 3 * text.kv_width + 2 * text.kv_width * (job.layout.cp - 1)
    if job.config.optimizer.share_prompts:
        columns += 2 * text.kv_width * job.keys_a_token
    kept = batch.tokens * (columns * e + 4 * text.heads) / tp
    if job.gpu.is_cpu:
        kept += batch.padded_tokens * (2 * text.hidden + 2 * text.kv_width) * e / tp
    return kept


def _stream(job: Job, batch: MicroBatchSize) -> float:
    """D T e, which sequence parallelism divides."""
    size = batch.tokens * job.shape.text.hidden * job.bytes_a_weight
    return size / job.layout.tp if job.sequence_parallel else size


def _norms(job: Job, batch: MicroBatchSize) -> float:
    """4 D T e: the stream before each norm and its output.

    torch's norm on a CPU keeps the normed rows besides, in fp32, and fp32 copies of bf16 rows in place of these.
    """
    stream = _stream(job, batch)
    if not job.gpu.is_cpu:
        return 4 * stream
    return 6 * stream if job.bytes_a_weight == 4 else 10 * stream


def loss_peak(job: Job, batch: MicroBatchSize) -> float:
    """4 n V / t + (e + 2 o) n D + e R D: bytes at the top of the head, which takes n of the R loss rows at a time.

    There are a chunk's logits in fp32, whose gradient takes their place; its hidden states and their gradient, in
    operands of o bytes; gradients of the rows so far. The weight's gradient is summed where it stays. A CPU multiplies
    in fp32 and copies a bf16 weight for it: 4 V D / t.
    """
    text, e = job.shape.text, job.bytes_a_weight
    rows, columns = min(job.head_chunk, batch.loss_rows), text.vocab / job.layout.tp
    operand = 4 if job.gpu.is_cpu else e
    copied_weight = 4 * columns * text.hidden if operand != e else 0
    of_chunk = rows * (4 * columns + 2 * operand * text.hidden + e * text.hidden)
    return of_chunk + e * batch.loss_rows * text.hidden + copied_weight
