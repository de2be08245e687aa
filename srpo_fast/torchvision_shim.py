"""Makes `import torchvision` work beside a CPU build of torch. Import this before anything of transformers or vLLM.

PyPI's torchvision is linked against CUDA; without it the C++ operators are missing and the import fails at the first
one it registers a meta kernel for. We use none of its operators, only its transforms, so declaring the two is enough.
"""

import sys

import torch

_library: torch.library.Library | None = None  # the declarations live as long as this object


def _declare_missing_operators() -> None:
    global _library
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        _library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def install() -> None:
    if torch.version.cuda is not None or "torchvision" in sys.modules:
        return
    try:
        import torchvision
    except RuntimeError:  # operator torchvision::nms does not exist
        for name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _declare_missing_operators()
        import torchvision  # noqa: F401


install()
