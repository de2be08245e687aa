"""Counts what a server was used for."""

import threading
from dataclasses import replace

from srpo_fast.chat.model import Usage
from srpo_fast.config import EndpointConfig


class UsageMeter:
    """Usage, counted by any number of threads."""

    def __init__(self, settings: EndpointConfig) -> None:
        self._prompt_price = settings.price_per_million_prompt_tokens
        self._completion_price = settings.price_per_million_completion_tokens
        self._usage = Usage()
        self._lock = threading.Lock()

    def add(self, **counts: int) -> None:
        """Raises the named counts of Usage."""
        with self._lock:
            self._usage = replace(self._usage, **{name: getattr(self._usage, name) + n for name, n in counts.items()})

    @property
    def usage(self) -> Usage:
        """All so far, with its price where prices are known."""
        usage = self._usage
        if self._prompt_price is None or self._completion_price is None:
            return usage
        price = usage.prompt_tokens * self._prompt_price + usage.completion_tokens * self._completion_price
        return replace(usage, dollars=price / 1e6)
