"""Claims from end to end, on small studies."""

import json

import pytest

from fadeout import load
from fadeout.cli.studies import configs_of, judge_claims
from fadeout.registry import FadeoutError
from helpers import CONF, script


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    where = tmp_path_factory.mktemp("claims")
    (where / "outputs").mkdir()
    done = script("claims", "sigmoid-formula", "relu-dies", "--quick", cwd=where)
    assert done.returncode == 0, done.stderr
    return where, done


def test_a_claim_is_told_drawn_and_written(judged):
    where, done = judged
    folder = where / "outputs/claims/quick"
    assert "relu-dies: HOLDS, EXCEPT at birth on inputs {-1, 1}" in done.stdout
    assert "holds, except in 1 of 5 cases (1 undecided): inputs {-1, 1}" in done.stdout
    assert "inputs {-1, 1}" in done.stdout
    for name in ("sigmoid-formula", "relu-dies"):
        assert (folder / f"{name}.png").stat().st_size > 20_000
        assert (folder / f"{name}.svg").exists()
    data = json.loads((folder / "claims.json").read_text())
    units = data["relu-dies"]["findings"][0]
    assert units["expected"] == 0.25
    assert units["low"] <= units["value"] <= units["high"]
    assert data["relu-dies"]["quick"]
    assert "jax" in json.dumps(data["relu-dies"])


def test_quick_keeps_the_lowest_eighth_of_the_seeds_in_the_studys_own_folder(judged):
    where, _ = judged
    results = load(where / "outputs/claims/relu_dies_units")
    assert set(results["seed"].values) == set(range(62))
    assert results.sizes["run"] == 2 * 62


def test_a_claim_judged_again_trains_nothing(judged):
    where, _ = judged
    before = {path: path.stat().st_mtime_ns for path in where.rglob("*.nc")}
    report = where / "outputs/claims/quick/claims.json"
    told = json.loads(report.read_text())
    assert judge_claims(["relu-dies"], CONF, where / "outputs", quick=True)
    assert {path: path.stat().st_mtime_ns for path in where.rglob("*.nc")} == before
    again = json.loads(report.read_text())
    assert again["sigmoid-formula"] == told["sigmoid-formula"], "others are kept"
    assert again["relu-dies"]["findings"] == told["relu-dies"]["findings"]


def test_a_report_that_was_cut_off_is_refused_before_any_compute(tmp_path):
    report = tmp_path / "claims/claims.json"
    report.parent.mkdir()
    report.write_text('{"relu')
    with pytest.raises(FadeoutError, match="move it away"):
        judge_claims(["relu-dies"], CONF, tmp_path)
    assert [path.name for path in report.parent.iterdir()] == ["claims.json"]


def test_an_unknown_claim_is_refused_before_any_compute(tmp_path):
    with pytest.raises(FadeoutError, match="relu-faster"):
        judge_claims(["relu-fastest"], CONF, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_study_from_python_is_the_command_lines(tmp_path):
    configs = configs_of("claims/zigzag", CONF, tmp_path)
    assert len(configs) == 3 * 8 * 100
    assert configs[0].folder() == tmp_path / "claims/zigzag"
