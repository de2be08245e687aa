"""Settings of stage 1: who answers, who judges, who reflects, and the cold start that learns from it."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from srpo_fast.config.section import Fraction, Positive, Rate, Section


class EndpointConfig(Section):
    """A model behind a server that speaks OpenAI's chat-completions protocol."""

    base_url: str = "https://api.openai.com/v1"
    model: str
    key_env: str | None = "OPENAI_API_KEY"  # environment variable with the key; None: the server asks for none
    concurrency: Positive = 16  # requests under way at a time
    requests_per_minute: Positive | None = None
    retries: Annotated[int, Field(ge=0)] = 6  # after 429, 5xx, time-outs and broken connections
    reply_retries: Annotated[int, Field(ge=0)] = 2  # after replies that cannot be used
    timeout_s: Rate = 120.0  # for one try
    backoff_s: Rate = 1.0  # the first pause, doubled by every further retry
    backoff_limit_s: Rate = 60.0  # the longest pause, unless the server asks for more
    temperature: Annotated[float, Field(ge=0.0)] | None = None  # None: the server's
    max_tokens: Positive = 4096  # of a reply, thoughts included
    max_tokens_name: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    sees_images: bool = True  # False: a text-only model, which gets the image's description if there is one
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"  # what the server understands
    price_per_million_prompt_tokens: Annotated[float, Field(ge=0.0)] | None = None  # dollars
    price_per_million_completion_tokens: Annotated[float, Field(ge=0.0)] | None = None
    extra_body: dict[str, Any] = Field(default_factory=dict)  # further keys of the request, as the server has them

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, base_url: str) -> str:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected http://host:port/v1 or https://..., got {base_url!r}")
        if parts.username is not None:
            raise ValueError("expected no user and password in the URL; name the variable with the key in key_env")
        return base_url

    @model_validator(mode="after")
    def _prices_agree(self) -> "EndpointConfig":
        if (self.price_per_million_prompt_tokens is None) != (self.price_per_million_completion_tokens is None):
            raise ValueError("prices of prompt and completion tokens belong together: give both or neither")
        return self


class JudgeConfig(Section):
    """Which first answers are worth a reflection, right or wrong."""

    endpoint: EndpointConfig
    threshold: Annotated[int, Field(ge=1, le=5)] = 3  # the least quality, of 5; the paper names none


class LocalTeacherConfig(Section):
    """A teacher in this process, sampled by vLLM: for `srpo reflect`, where no policy is trained beside it."""

    path: Path  # a Hugging Face directory
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    tp: Positive = 1
    max_prompt_tokens: Positive = 8192
    max_tokens: Positive = 2048
    temperature: float = Field(default=0.7, ge=0.0, le=2.0)  # vLLM takes no more
    max_num_seqs: Positive = 64
    kv_cache_gib: float = Field(default=4.0, gt=0.0)


class ReflectionConfig(Section):
    """Stage 1: whose answers, how many, and who reflects. Everything it finds out is kept in run.dir/reflection."""

    teacher: Literal["embedded"] | EndpointConfig | LocalTeacherConfig
    pool: str | None = None  # a file of questions, or "embedded"; None: data.train
    image_root: Path | None = None  # relative image paths of that file start here; None: its folder
    descriptions: Path | None = None  # a file of {image, description}, for models that see no images
    prompts: Positive = 100_000  # questions drawn from the pool and answered
    records: Positive = 10_000  # SFT examples wanted
    answerer: EndpointConfig | None = None  # who gives the first answers; None: the policy, in this process
    temperature: float = Field(default=0.2, ge=0.0)  # of the first answers
    max_tokens: Positive = 1024
    judge: JudgeConfig | None = None  # None: every finished answer of the right form is good enough
    right_share: Fraction | None = 0.3  # of first answers among the records; None: as sampled
    think_blocks: Literal[1, 2] = 1  # 2: the second answer is reasoned, too, as in stage 2; 1: as published
    leaks: Literal["count", "refuse"] = "count"  # reflections that merely state the answer

    @field_validator("answerer")
    @classmethod
    def _sampled_as_the_policy(cls, answerer: EndpointConfig | None) -> EndpointConfig | None:
        if answerer and (twice := answerer.model_fields_set & {"temperature", "max_tokens"}):
            raise ValueError(f"first answers are sampled by reflection.{min(twice)}, whoever gives them; set that one")
        return answerer

    @field_validator("teacher", mode="wrap")
    @classmethod
    def _one_of_three(cls, value: Any, validate: Callable[[Any], Any]) -> Any:
        """Only the errors of the kind that is meant."""
        if isinstance(value, dict):
            return (LocalTeacherConfig if "path" in value else EndpointConfig).model_validate(value)
        if isinstance(value, str) and value != "embedded":
            raise ValueError(
                f"expected embedded, a section with the base_url and model of a server, or one with the path of a "
                f"model directory, got {value!r}"
            )
        return validate(value)


FirstAnswerLoss = Literal["always", "when_right", "never"]


class ColdStartConfig(Section):
    """SFT on the examples of stage 1, or of any file in the published SFT format."""

    data: Path | None = None  # such a file; None: what the reflection section makes
    image_root: Path | None = None  # relative image paths of that file start here; None: its folder
    epochs: float = Field(default=1.0, gt=0)
    batch_size: Positive = 16
    lr: Rate = 1e-5
    warmup_share: Fraction = 0.1
    decay_share: Fraction = 0.9  # of the updates, at the end, over which the rate falls to zero
    first_answer_loss: FirstAnswerLoss = "always"  # right: it equals the last answer
