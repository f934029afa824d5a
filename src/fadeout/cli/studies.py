"""Studies of conf/experiment/ run from Python, and the claims judged by them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from fadeout import plots
from fadeout.claims import CLAIMS, Claim, Finding, Verdict, judge_claim
from fadeout.cli import console
from fadeout.cli.compose import compose_jobs, expand_sweep
from fadeout.cli.config import Config
from fadeout.files import write_atomically
from fadeout.registry import FadeoutError, lookup
from fadeout.sweeps import reading
from fadeout.sweeps.grids import Chain
from fadeout.sweeps.provenance import provenance
from fadeout.sweeps.results import select_identities
from fadeout.sweeps.run_index import index_runs
from fadeout.sweeps.sweep import sweep
from fadeout.training.program_cache import use_program_cache

_QUICK_SHARE = 8
"""A quick study keeps an eighth of its seeds, the lowest, or as many as a claim needs."""


class _Judged(NamedTuple):
    """A claim with what was measured of it."""

    claim: Claim
    findings: Sequence[Finding]
    verdict: Verdict


def judge_claims(
    names: Sequence[str], conf: Path, outputs: Path, quick: bool = False
) -> dict[str, _Judged]:
    """Trains what the claims need, judges them, and writes a picture each and a JSON of all.

    Args:
      names: ids of claims; none means all.
      conf: the folder of the menu.
      outputs: studies go to <outputs>/claims/<study>, as by hand; the rest to <outputs>/claims.
      quick: train fewer seeds of each study; verdicts go to <outputs>/claims/quick.

    Raises:
      FadeoutError: no such claim, before any compute.
    """
    chosen = {name: lookup(CLAIMS, name, "claim") for name in names or CLAIMS}
    console.quiet_libraries()
    use_program_cache("auto")
    known: dict[str, xr.Dataset] = {}
    least: dict[str, int] = {}
    for claim in CLAIMS.values():
        for study in claim.studies:
            least[study] = max(least.get(study, 0), claim.least)
    judged = {}
    folder = outputs / "claims" / "quick" if quick else outputs / "claims"
    report = _read_json(folder / "claims.json")
    for name, claim in chosen.items():
        for study in claim.studies:
            if study not in known:
                known[study] = _train_study(
                    f"claims/{study}", conf, outputs, least[study] if quick else None
                )
        findings = claim.measure(*(known[study] for study in claim.studies))
        judged[name] = _Judged(claim, findings, judge_claim(claim, findings))
        console.show_claim(name, *judged[name])
        plots.save_claim(name, *judged[name], folder)
        report[name] = _claim_as_data(*judged[name]) | {"quick": quick} | provenance()
        ordered = {name: report[name] for name in CLAIMS if name in report}
        write_atomically(folder / "claims.json", (json.dumps(ordered, indent=1) + "\n").encode())
    return judged


def _read_json(path: Path) -> dict[str, Any]:
    """Returns the verdicts of earlier calls, to which new ones are added.

    Raises:
      FadeoutError: the file is not ours, or cut off.
    """
    if not path.exists():
        return {}
    if not path.is_file():
        raise FadeoutError(f"{path} is no regular file: move it away")
    try:
        found = json.loads(path.read_text())
    except (ValueError, OSError, RecursionError) as error:
        raise FadeoutError(f"{path} cannot be read ({error}): move it away") from error
    if not isinstance(found, dict):
        raise FadeoutError(f"{path} is no report of claims: move it away")
    return {name: value for name, value in found.items() if name in CLAIMS}


def _train_study(study: str, conf: Path, outputs: Path, least: int | None = None) -> xr.Dataset:
    """The results of a study; what its folder lacks is trained.

    Args:
      least: of a share of its seeds, but so many at least; None: of all.

    Raises:
      FadeoutError: runs that failed.
    """
    configs = configs_of(study, conf, outputs)
    if least is not None:
        seeds = sorted({config.seed for config in configs})
        kept = set(seeds[: max(least, len(seeds) // _QUICK_SHARE)])
        configs = [config for config in configs if config.seed in kept]
    folder = configs[0].folder()
    index = index_runs(Chain([config.runs() for config in configs]))
    with console.progress() as watch:
        summary = sweep(index, folder, watch)
    if summary.errors:
        raise FadeoutError(f"{study} failed: {summary.errors[0]}")
    return select_identities(reading.load(folder), index.identity)


def configs_of(study: str, conf: Path, outputs: Path) -> list[Config]:
    """The jobs of a study's multirun, as the command line composes them."""
    with initialize_config_dir(str(conf.absolute()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        arguments = [f"+experiment={study}", f"outputs={outputs}"]
        master = loader.load_configuration("config", arguments, RunMode.MULTIRUN)
        jobs = expand_sweep(loader, master.hydra.sweeper.params, arguments)
        return compose_jobs(loader, master, jobs)


def _claim_as_data(claim: Claim, findings: Sequence[Finding], verdict: Verdict) -> dict[str, Any]:
    """A judged claim as plain data, for JSON, where what is not finite is null."""

    def number(value: float | None) -> float | None:
        return None if value is None or not np.isfinite(value) else float(value)

    return {
        "sentence": claim.sentence,
        "source": claim.source,
        "studies": claim.studies,
        "verdict": verdict.word,
        "answer": claim.answer_to(verdict),
        "text": str(verdict),
        "rules": {quantity: str(rule) for quantity, rule in claim.rules.items()},
        "findings": [
            {
                "quantity": finding.quantity,
                "condition": finding.condition,
                **{end: number(value) for end, value in finding.measured._asdict().items()},
                "expected": number(finding.expected),
                "supports": claim.supports(finding) if claim.judged(finding) else None,
            }
            for finding in findings
        ],
    }
