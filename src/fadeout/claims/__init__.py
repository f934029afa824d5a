"""Sentences that are taught, and the rules by which measurements judge them."""

from fadeout.claims.rules import Claim, Finding, Rule, Verdict, judge_claim
from fadeout.claims.table import CLAIMS

__all__ = ["CLAIMS", "Claim", "Finding", "Rule", "Verdict", "judge_claim"]
