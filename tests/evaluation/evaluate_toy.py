"""Run as a script: evaluates saved responses of FOLDER with the judge at URL; a test kills it."""

import sys
from pathlib import Path

from srpo_fast.config import EndpointConfig
from tests.evaluation.eval_case import evaluate, two

RESPONSES = {str(number): two("wrong", f"?{number}") for number in range(40)}


def judge(url: str) -> EndpointConfig:
    return EndpointConfig(base_url=url, model="m", key_env=None, concurrency=2)


if __name__ == "__main__":
    evaluate(Path(sys.argv[1]), RESPONSES, judge(sys.argv[2]))
