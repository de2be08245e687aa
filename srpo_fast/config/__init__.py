"""The typed schema of a run: one YAML file, `key=value` overrides, every error named at once.

schema.py is the whole; stage_1.py and stage_2.py hold the sections of the two stages; presets.py what an objective's
name stands for; loading.py reads files. configs/*.yaml say where each value comes from.
"""

from srpo_fast.config.loading import (
    DEFAULT_CONFIG,
    add_config_arguments,
    config_error,
    config_from_arguments,
    dump_config,
    load_config,
)
from srpo_fast.config.schema import (
    BenchmarkConfig,
    BenchmarkName,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    ParallelConfig,
    PromptConfig,
    RunConfig,
)
from srpo_fast.config.section import EMBEDDED
from srpo_fast.config.stage_1 import (
    ColdStartConfig,
    EndpointConfig,
    FirstAnswerLoss,
    JudgeConfig,
    LocalTeacherConfig,
    ReflectionConfig,
)
from srpo_fast.config.stage_2 import AdvantageConfig, LossConfig, RewardConfig, RewardVariant, RolloutConfig
from srpo_fast.user_error import ConfigError, UserError

__all__ = [
    "DEFAULT_CONFIG",
    "EMBEDDED",
    "AdvantageConfig",
    "BenchmarkConfig",
    "BenchmarkName",
    "ColdStartConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "EndpointConfig",
    "EvaluationConfig",
    "FirstAnswerLoss",
    "JudgeConfig",
    "LocalTeacherConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "ParallelConfig",
    "PromptConfig",
    "ReflectionConfig",
    "RewardConfig",
    "RewardVariant",
    "RolloutConfig",
    "RunConfig",
    "UserError",
    "add_config_arguments",
    "config_error",
    "config_from_arguments",
    "dump_config",
    "load_config",
]
