"""How a claim is judged: measured intervals, rules, and a verdict that may come out any way."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from fadeout.analysis.intervals import Interval


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
        """Returns whether an interval lies inside (True), outside (False), or across (None)."""
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
      measure: the findings, of the results of each study.
      rules: by quantity, the range that supports the sentence. Findings of other quantities are
        shown beside, and judge nothing.
      studies: files in conf/experiment/claims/, trained before it is measured.
      answer: what was found, in the words of docs/claims.md; empty where the verdict says it.
      cases: those that the answer tells of, as the verdict names them.
      least: seeds that a verdict needs, of each study; a quick one keeps so many.
    """

    sentence: str
    source: str
    measure: Callable[..., Sequence[Finding]]
    rules: Mapping[str, Rule]
    studies: tuple[str, ...] = ()
    answer: str = ""
    cases: tuple[str, ...] = ()
    least: int = 16

    def judged(self, finding: Finding) -> bool:
        return finding.quantity in self.rules

    def supports(self, finding: Finding) -> bool | None:
        """Returns what the finding's rule decides: True, False, or None."""
        return self.rules[finding.quantity](finding.measured)

    def answer_to(self, verdict: "Verdict") -> str:
        """The answer, where the verdict is the one that it tells of; else nothing."""
        if verdict.word == "holds only if":
            how, cases = verdict.exceptions()
            agrees = self.answer.startswith(how) and set(cases) == set(self.cases)
        else:
            agrees = not self.cases and self.answer.startswith(verdict.word)
        return self.answer if agrees else ""

    def headline(self, verdict: "Verdict") -> str:
        """The verdict in capitals, and what the answer says beyond it.

        >>> claim = Claim("", "", list, {}, answer="fails: it is 1/(1 + e^-x)")
        >>> claim.headline(Verdict("fails", [], [], []))
        'FAILS: it is 1/(1 + e^-x)'
        """
        words = self.answer_to(verdict) or verdict.word
        said = re.match("holds, except|(holds|fails)( only if| only)?|undecided", words)
        return words if said is None else said[0].upper() + words[said.end() :]


class Verdict(NamedTuple):
    """Attributes:
    word: holds, fails, holds only if, or undecided.
    supporting, against, undecided: the findings by what their rule says.
    """

    word: str
    supporting: list[Finding]
    against: list[Finding]
    undecided: list[Finding]

    def exceptions(self) -> tuple[str, list[str]]:
        """Returns whether it *holds only* or *holds, except* in some cases, the fewer ones, and in
        which."""
        cases = [*self.supporting, *self.against, *self.undecided]
        several = len({finding.quantity for finding in cases}) > 1
        fewer = self.supporting if len(self.supporting) <= len(self.against) else self.against
        words = [
            f"{finding.condition} ({finding.quantity})" if several else finding.condition
            for finding in fewer
        ]
        return "holds only" if fewer is self.supporting else "holds, except", words

    def __str__(self) -> str:
        if self.word != "holds only if":
            return self.word
        how, words = self.exceptions()
        count = len(self.supporting) + len(self.against)
        open_ = f" ({len(self.undecided)} undecided)" if self.undecided else ""
        return f"{how} in {len(words)} of {count} cases{open_}: {'; '.join(words)}"


def judge_claim(claim: Claim, findings: Sequence[Finding]) -> Verdict:
    """The verdict on a claim: it *holds* where every finding supports it, *fails* where none does,
    *holds only if* where some do and some do not; intervals that cross a bound leave it
    *undecided*, unless others decide."""
    answers: dict[bool | None, list[Finding]] = {True: [], False: [], None: []}
    for finding in filter(claim.judged, findings):
        answers[claim.supports(finding)].append(finding)
    supporting, against, undecided = answers.values()
    if supporting and against:
        word = "holds only if"
    elif undecided or not (supporting or against):
        word = "undecided"
    else:
        word = "holds" if supporting else "fails"
    return Verdict(word, supporting, against, undecided)
