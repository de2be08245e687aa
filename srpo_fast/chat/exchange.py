"""One try: a request's body goes to the server, and what comes back is a completion or a setback."""

import asyncio
from typing import Any

import httpx2
import openai

from srpo_fast.chat.model import FailureReason
from srpo_fast.chat.pacing import Pacer, retry_after
from srpo_fast.chat.replies import Completion, Setback, read_completion
from srpo_fast.chat.usage import UsageMeter
from srpo_fast.config import EndpointConfig, UserError

CONNECT_TIMEOUT_S = 10.0
LONGEST_WAIT_S = 600.0  # a server that asks for more has met a daily limit

_REMEDIES = {  # by status: no other request will fare better
    401: "check the key and key_env",
    402: "the account has no funds left",
    404: "check model, and base_url, which usually ends in /v1",
    405: "check base_url, which usually ends in /v1",
}
_TIMEOUTS = (408, 504)
_PASSING = (409, 425)  # conflict, too early


class PointlessToAsk(UserError):
    """The server's answer would be the same for every other request."""


class Exchange:
    """The server of one endpoint, whatever client is used."""

    def __init__(self, settings: EndpointConfig, key: str | None, meter: UsageMeter) -> None:
        self._settings = settings
        self._key = key
        self._meter = meter
        self._pacer = Pacer(settings.requests_per_minute)
        self._was_reached = False

    def new_client(self) -> openai.AsyncOpenAI:
        """A client for one event loop; its own retries are off."""
        limit = self._settings.timeout_s
        return openai.AsyncOpenAI(
            base_url=self._settings.base_url,
            api_key=self._key or "none",
            timeout=openai.Timeout(limit, connect=min(CONNECT_TIMEOUT_S, limit)),
            max_retries=0,
        )

    async def post(self, client: openai.AsyncOpenAI, body: dict[str, Any]) -> Completion | Setback:
        """What the server says to `body`, when it is this one's turn. Raises PointlessToAsk."""
        await asyncio.sleep(self._pacer.reserve())
        self._meter.add(requests=1)
        try:
            async with asyncio.timeout(self._settings.timeout_s):  # the client's own is for every single read
                response = await client.chat.completions.with_raw_response.create(
                    **body, extra_body=self._settings.extra_body
                )
        except TimeoutError:
            return Setback(reason=FailureReason.TIMEOUT, detail=f"no reply within {self._settings.timeout_s:g} s")
        except openai.APIStatusError as error:
            self._was_reached = True
            setback = setback_of_status(error)
            self._pacer.hold(setback.retry_after_s or 0.0)
            return setback
        except openai.APIConnectionError as error:
            return self._setback_of_connection(error)
        self._was_reached = True
        return read_completion(response.content)

    def _setback_of_connection(self, error: openai.APIConnectionError) -> Setback:
        cause = error.__cause__ or error
        detail = f"{type(cause).__name__}: {cause}"
        if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout) and not self._was_reached:
            raise PointlessToAsk(f"nobody answers there ({detail}); start the server or correct base_url")
        is_timeout = isinstance(error, openai.APITimeoutError)
        return Setback(reason=FailureReason.TIMEOUT if is_timeout else FailureReason.CONNECTION, detail=detail)


def setback_of_status(error: openai.APIStatusError) -> Setback:
    """What a response of status 4xx or 5xx means. Raises PointlessToAsk."""
    status, said, wish = error.status_code, error.message, retry_after(error.response.headers)
    if status in _REMEDIES:
        raise PointlessToAsk(f"{said}; {_REMEDIES[status]}")
    if status == 429 and error.code == "insufficient_quota":
        raise PointlessToAsk(f"{said}; the account has no quota left")
    if wish is not None and wish > LONGEST_WAIT_S:
        raise PointlessToAsk(f"{said}; it asks to be left alone for {wish:.0f} s, so run again after that")
    if status == 429:
        return Setback(reason=FailureReason.RATE_LIMITED, detail=said, retry_after_s=wish)
    if status in _TIMEOUTS:
        return Setback(reason=FailureReason.TIMEOUT, detail=said, retry_after_s=wish)
    if status >= 500 or status in _PASSING:
        return Setback(reason=FailureReason.SERVER_ERROR, detail=said, retry_after_s=wish)
    is_filtered = error.code == "content_filter"
    reason = FailureReason.CONTENT_FILTER if is_filtered else FailureReason.BAD_REQUEST
    return Setback(reason=reason, detail=said, is_final=True)
