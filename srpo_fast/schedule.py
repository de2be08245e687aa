"""The learning rate as a function of the update."""


def learning_rate(update: int, updates: int, peak: float, warmup: int, decay_share: float) -> float:
    """Linear warm-up over `warmup` updates, constant, linear to zero over the last `decay_share` of all updates."""
    if update < warmup:
        return peak * (update + 1) / warmup
    decay = decay_share * updates
    left = updates - update
    return peak * min(1.0, left / decay) if decay > 0 else peak
