"""Puts the sentences of the lecture note and of the literature to test.

fadeout claims                   all claims
fadeout claims relu-faster ...   some
fadeout claims --quick           fewer networks, the same questions
"""

import argparse
from pathlib import Path

from fadeout.cli.app import command, stoppable
from fadeout.cli.menu import CONF


def run() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("claims", nargs="*", help="ids of claims; all where none is given")
    parser.add_argument(
        "--quick", action="store_true", help="an eighth of the seeds, or as many as a verdict needs"
    )
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    chosen = parser.parse_args()
    from fadeout.cli.console import show_verdicts
    from fadeout.cli.studies import judge_claims

    with stoppable():
        judged = judge_claims(chosen.claims, CONF, chosen.outputs, chosen.quick)
    show_verdicts(judged)
    print(f"pictures and claims.json: {chosen.outputs / 'claims' / ('quick' * chosen.quick)}")
    return 0


def main() -> int:
    return command(run)
