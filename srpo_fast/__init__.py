"""srpo-fast: SRPO for Qwen2.5-VL. Importing it sets what torch and vLLM read from the environment at import."""

import os
from importlib.metadata import PackageNotFoundError, version

_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine lives in our process: weights are handed over as tensors
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
# torch.compile costs more than it gives at CPU sizes; two OpenMP threads a rank collapse under any other load
_CPU_ENVIRONMENT = {"TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
_CUDA_ENVIRONMENT = {
    "CUDA_DEVICE_MAX_CONNECTIONS": "1",  # kernels run in the order of their launch, which Megatron's overlap relies on
    "TRITON_F32_DEFAULT": "ieee",  # an fp32 engine's attention is fp32; Triton's own default is TF32
}

try:
    _on_cpu = version("torch").endswith("+cpu")
except PackageNotFoundError:  # which `srpo doctor` says, with the remedy
    _on_cpu = True
for _name, _value in (_ENVIRONMENT | (_CPU_ENVIRONMENT if _on_cpu else _CUDA_ENVIRONMENT)).items():
    os.environ.setdefault(_name, _value)
