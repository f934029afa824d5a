"""Rules and verdicts on findings of both sides."""

from fadeout.claims.rules import Claim, Finding, above, below, judge
from fadeout.verdicts import Interval

INSIDE, OUTSIDE, ACROSS = Interval(1, 2, 3), Interval(-3, -2, -1), Interval(-1, 0, 1)


def verdict(*measured):
    claim = Claim("all are positive", "nobody", (), lambda: [], {"x": above(0.5)})
    return judge(claim, [Finding("x", f"case {i}", m) for i, m in enumerate(measured)])


def test_a_rule_sees_inside_outside_and_across():
    assert [above(0)(m) for m in (INSIDE, OUTSIDE, ACROSS)] == [True, False, None]
    assert [below(0)(m) for m in (INSIDE, OUTSIDE, ACROSS)] == [False, True, None]
    assert above(1)(INSIDE), "a bound belongs to its range"


def test_a_verdict_can_come_out_any_way():
    assert verdict(INSIDE, INSIDE).word == "holds"
    assert verdict(OUTSIDE, OUTSIDE).word == "fails"
    assert verdict(INSIDE, ACROSS).word == verdict(OUTSIDE, ACROSS).word == "undecided"
    assert str(verdict(OUTSIDE, INSIDE, ACROSS)) == "holds only in 1 of 3 cases: case 1"


def test_each_quantity_has_its_own_rule():
    rules = {"gain": above(0.5), "cost": below(0)}
    claim = Claim("more for less", "nobody", (), lambda: [], rules)
    findings = [Finding("gain", "a", INSIDE), Finding("cost", "a", OUTSIDE)]
    assert judge(claim, findings).word == "holds"
    assert judge(claim, [findings[0], Finding("cost", "b", INSIDE)]).against[0].condition == "b"
