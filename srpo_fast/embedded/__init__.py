"""A task, a model and a teacher that need no download: the whole job runs from what is installed."""

from srpo_fast import torchvision_shim  # noqa: F401  (before any module here imports transformers)
