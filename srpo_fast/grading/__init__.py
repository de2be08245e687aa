"""Does an answer say what the gold says? Light to import: only expressions.py brings sympy, and runs in workers."""

from srpo_fast.grading.quantities import EXACT, Tolerance
from srpo_fast.grading.verdict import Gold, Verdict, quick_verdict

__all__ = ["EXACT", "Gold", "Tolerance", "Verdict", "quick_verdict"]
