"""The versions whose inner parts are reached for; everything else goes by pyproject.toml's ranges."""

VLLM_VERSION = "0.32.0"
MEGATRON_VERSION = "0.16.1"
