"""A model directory as a ChatModel: sampled by vLLM in this process, held to the wanted JSON by its grammar."""

import random
from collections.abc import Iterable, Iterator
from itertools import islice

from srpo_fast.chat.model import ChatFailure, ChatReply, ChatRequest, FailureReason, Usage
from srpo_fast.chat.replies import Completion, Setback, one_line, read_reply
from srpo_fast.chat.request_body import request_body
from srpo_fast.chat.usage import UsageMeter
from srpo_fast.config import EndpointConfig, LocalTeacherConfig
from srpo_fast.rollout.chat_engine import ChatEngine, Said, Talk, Unfit

_AS_A_SERVER = EndpointConfig(model="", key_env=None)  # whose messages are the model's
ROUND = 4  # times max_num_seqs: asked together, and lost together by a kill


class LocalModel:
    """The engine is started by the first request and ended after the last reply, so that nothing else shares memory."""

    def __init__(self, settings: LocalTeacherConfig, seed: int) -> None:
        self._settings, self._seed = settings, seed
        self._meter = UsageMeter(_AS_A_SERVER)

    @property
    def usage(self) -> Usage:
        return self._meter.usage

    def ask(self, requests: Iterable[ChatRequest]) -> Iterator[ChatReply | ChatFailure]:
        """One result a request, in rounds. Nothing is asked twice: the same seed would say the same."""
        requests, engine = iter(requests), None
        try:
            while members := list(islice(requests, ROUND * self._settings.max_num_seqs)):
                engine = engine or ChatEngine(self._settings, self._seed)
                said = engine.chat([self._talk(member) for member in members])
                for member, each in zip(members, said, strict=True):
                    yield self._result(member, each)
        finally:
            if engine is not None:
                engine.close()

    def _talk(self, request: ChatRequest) -> Talk:
        body = request_body(request, _AS_A_SERVER)
        seed = random.Random(f"{self._seed}:{request.key}").getrandbits(31)  # no two share their random numbers
        return Talk(messages=body["messages"], schema=request.schema, seed=seed)

    def _result(self, request: ChatRequest, said: Said | Unfit) -> ChatReply | ChatFailure:
        reply = self._read(request, said)
        if isinstance(reply, ChatReply):
            self._meter.add(requests=1, replies=1)
            return reply
        self._meter.add(requests=1, failures=1)
        return ChatFailure(key=request.key, reason=reply.reason, detail=one_line(reply.detail))

    def _read(self, request: ChatRequest, said: Said | Unfit) -> ChatReply | Setback:
        if isinstance(said, Unfit):
            return Setback(reason=FailureReason.BAD_REQUEST, detail=said.reason)
        counts = {"prompt_tokens": said.prompt_tokens, "completion_tokens": said.completion_tokens}
        self._meter.add(**counts)
        choice = {"message": {"content": said.text}, "finish_reason": "stop" if said.is_finished else "length"}
        return read_reply(request, Completion.model_validate({"choices": [choice], "usage": counts}))
