"""`srpo estimate`: does a run fit, what is the next knob, how long would a step take. No GPU, no weights, no torch."""

from srpo_fast.estimate.prediction import Prediction, predict
from srpo_fast.estimate.report import as_json, as_text

__all__ = ["Prediction", "as_json", "as_text", "predict"]
