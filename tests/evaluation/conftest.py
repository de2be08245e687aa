import pytest

from srpo_fast.config import RewardConfig
from srpo_fast.grading.grader import Grader


@pytest.fixture(scope="session")
def grader():
    grader = Grader(RewardConfig(workers=1, time_limit=5.0))
    yield grader
    grader.close()
