"""How a claim is judged: measured intervals, rules, and a verdict that may come out any way."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from fadeout.verdicts import Interval


class Finding(NamedTuple):
    """One measured number.

    Attributes:
      quantity: what it is, for an axis.
      condition: under which it was measured.
      measured: with its interval.
      expected: from theory or an exact formula, where there is one.
    """

    quantity: str
    condition: str
    measured: Interval
    expected: float | None = None


class Rule(NamedTuple):
    """The range where a finding supports its claim."""

    low: float
    high: float

    def __call__(self, measured: Interval) -> bool | None:
        """Whether an interval lies inside (True), outside (False), or across (None)."""
        if self.low <= measured.low and measured.high <= self.high:
            return True
        if measured.high < self.low or measured.low > self.high:
            return False
        return None

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"at least {self.low:g}"
        if math.isinf(self.low):
            return f"at most {self.high:g}"
        return f"from {self.low:g} to {self.high:g}"


def above(bound: float) -> Rule:
    return Rule(bound, math.inf)


def below(bound: float) -> Rule:
    return Rule(-math.inf, bound)


class Claim(NamedTuple):
    """A sentence that is put to test.

    Attributes:
      sentence: as it is taught.
      source: who says so.
      studies: files in conf/experiment/claims/, trained before it is measured.
      measure: the findings, of the results of each study.
      rules: by quantity, the range that supports the sentence.
    """

    sentence: str
    source: str
    studies: tuple[str, ...]
    measure: Callable[..., Sequence[Finding]]
    rules: Mapping[str, Rule]


class Verdict(NamedTuple):
    """Attributes:
    word: holds, fails, holds only if, or undecided.
    supporting, against, undecided: the findings by what their rule says.
    """

    word: str
    supporting: list[Finding]
    against: list[Finding]
    undecided: list[Finding]

    def __str__(self) -> str:
        if self.word != "holds only if":
            return self.word
        cases = len(self.supporting) + len(self.against) + len(self.undecided)
        where = "; ".join(finding.condition for finding in self.supporting)
        return f"holds only in {len(self.supporting)} of {cases} cases: {where}"


def judge(claim: Claim, findings: Sequence[Finding]) -> Verdict:
    """The verdict on a claim: it *holds* where every finding supports it, *fails* where none does,
    *holds only if* where some do and some do not; intervals that cross a bound leave it
    *undecided*, unless others decide."""
    answers: dict[bool | None, list[Finding]] = {True: [], False: [], None: []}
    for finding in findings:
        answers[claim.rules[finding.quantity](finding.measured)].append(finding)
    supporting, against, undecided = answers.values()
    if supporting and against:
        word = "holds only if"
    elif undecided:
        word = "undecided"
    else:
        word = "holds" if supporting else "fails"
    return Verdict(word, supporting, against, undecided)
