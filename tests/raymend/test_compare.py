"""Comparisons: what they measure, what fails alone, what is refused, and what a second run repeats."""

import csv
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phantoms import Dose, shepp_logan, simulate
from raymend import compare
from raymend.comparison.cases import Pair
from raymend.comparison.catalogue import cases_of
from raymend.comparison.intervals import over_cases, over_draws, relative_change
from raymend.comparison.methods import Method, candidates, methods
from raymend.comparison.setup import Setup
from recon import ConeBeam, Detector, VolumeGrid, rmse, write_scan
from recon.errors import ConfigError, ShapeError
from recon.io import Volume
from restoration.denoisers.learned import Learned
from restoration.weights.store import SHIPPED

SMALL: dict[str, Any] = {"preset": "hyperfed2", "views": 60, "size": 48, "draws": 2, "budget": 1, "processes": 1}
SHIFTS = (0.0, 8.0, -3.0)


def same(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return image


def halves(image: np.ndarray[Any, Any], noise: float) -> np.ndarray[Any, Any]:
    return (image + np.roll(image, 1, axis=0)) / 2


def raises(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    raise RuntimeError("no such luck")


def breaks(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.full_like(image, np.nan)


def cuts(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return image[1:]


def counted(calls: list[int], name: str = "counted") -> Method:
    """A method that writes down each of its runs."""

    def make(trial: Any, strength: float) -> torch.Tensor:
        calls.append(trial.seed)
        return trial.image

    return Method(name=name, label=name, source="test", needs="image", tuning="none", make=make)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def outcome() -> Any:
    return compare(["fbp", same, halves, raises, breaks, cuts], ["shepp-logan", "anatomy-head:5"], **SMALL)


def test_a_denoiser_that_does_nothing_equals_fbp(outcome: Any) -> None:
    for case in ("shepp-logan", "anatomy-head:5"):
        for metric in ("rmse", "ssim", "fsim"):
            assert outcome.row(case, "same", metric).mean == outcome.row(case, "fbp", metric).mean


def test_numbers_are_those_of_the_metrics(outcome: Any) -> None:
    shown, cell = outcome.shown[0], outcome.cell("shepp-logan", "halves")
    expected = rmse(cell.images[0], shown.reference, mask=shown.mask)
    assert cell.values["rmse"][0] == pytest.approx(expected, rel=1e-6)
    assert outcome.row("shepp-logan", "halves", "rmse").mean == pytest.approx(np.mean(cell.values["rmse"]))


@pytest.mark.parametrize(("name", "reason"), [("raises", "no such luck"), ("breaks", "NaN"), ("cuts", "(47, 48)")])
def test_what_fails_fails_alone_and_says_why(outcome: Any, name: str, reason: str) -> None:
    assert reason in outcome.cell("shepp-logan", name).message
    assert math.isnan(outcome.row("shepp-logan", name, "rmse").mean)
    assert outcome.best("shepp-logan", "rmse") in ("fbp", "same", "halves")


def test_rows_over_all_cases_are_their_means(outcome: Any) -> None:
    cases = [outcome.row(case.name, "halves", "rmse").mean for case in outcome.shown]
    row = outcome.row("all", "halves", "rmse")
    assert row.mean == pytest.approx(np.mean(cases))
    assert math.isnan(row.low)  # two cases say nothing of others
    change = outcome.change("halves", "rmse")
    assert change.low < change.value < change.high
    assert change.value == pytest.approx(np.mean(cases) / outcome.row("all", "fbp", "rmse").mean - 1)


def test_the_files_hold_the_table(outcome: Any, tmp_path: Path) -> None:
    outcome.to_csv(tmp_path / "scores.csv")
    rows = read_csv(tmp_path / "scores.csv")
    assert list(rows[0]) == ["case", "method", "metric", "unit", "mean", "low", "high"]
    assert len(rows) == 3 * 3 * 6  # two cases and all of them, three metrics, six methods
    first = rows[0]
    assert float(first["low"]) <= float(first["mean"]) <= float(first["high"])
    assert [row["mean"] for row in rows if row["method"] == "raises"] == [""] * 9
    outcome.to_json(tmp_path / "scores.json")
    assert "no such luck" in (tmp_path / "scores.json").read_text()


def test_a_network_with_damaged_weights_fails_in_its_cells_alone(tmp_path: Path) -> None:
    for file in SHIPPED.glob("unet.*"):
        shutil.copy(file, tmp_path)
    weights = bytearray((tmp_path / "unet.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "unet.safetensors").write_bytes(weights)
    found = compare(["fbp", Learned("unet", tmp_path), "red-cnn"], ["shepp-logan"], **SMALL)
    assert "expected the SHA-256" in found.cell("shepp-logan", "unet").message
    assert found.row("shepp-logan", "red-cnn", "rmse").mean < found.row("shepp-logan", "fbp", "rmse").mean
    assert "trained on random patients only" in found.entrants[2].note


def test_networks_know_whom_they_were_trained_on() -> None:
    with pytest.raises(ConfigError, match="unet has seen in training"):
        compare(["unet"], ["anatomy-abdomen:100007"], **SMALL)


def test_a_second_run_repeats_nothing_and_a_new_method_runs_alone(tmp_path: Path) -> None:
    first: list[int] = []
    second: list[int] = []
    compare([counted(first)], ["shepp-logan", "disc"], out=tmp_path / "out", **SMALL)
    assert sorted(first) == [0, 0, 1, 1]
    table = (tmp_path / "out" / "scores.csv").read_text()
    both = [counted(first), counted(second, "other")]
    compare(both, ["shepp-logan", "disc"], out=tmp_path / "out", **SMALL)
    assert len(first) == 4
    assert sorted(second) == [0, 0, 1, 1]
    grown = (tmp_path / "out" / "scores.csv").read_text().splitlines()
    assert set(table.splitlines()) <= set(grown)


def test_an_interrupted_run_goes_on_to_the_same_table(tmp_path: Path) -> None:
    calls: list[int] = []

    def make(trial: Any, strength: float) -> torch.Tensor:
        if interrupt:
            raise KeyboardInterrupt
        return trial.image + 5

    stopping = Method(name="stopping", label="stopping", source="test", needs="image", tuning="none", make=make)
    interrupt = True
    wanted = [counted(calls), stopping]
    with pytest.raises(KeyboardInterrupt):
        compare(wanted, ["shepp-logan"], out=tmp_path / "out", **SMALL)
    assert len(calls) == 2
    interrupt = False
    compare(wanted, ["shepp-logan"], out=tmp_path / "out", **SMALL)
    assert len(calls) == 2
    compare(wanted, ["shepp-logan"], out=tmp_path / "whole", **SMALL)
    assert (tmp_path / "out" / "scores.csv").read_text() == (tmp_path / "whole" / "scores.csv").read_text()


def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    worth = [math.nan, 0.0]

    def make(trial: Any, strength: float) -> torch.Tensor:
        return trial.image + worth[0]

    unlucky = Method(name="unlucky", label="unlucky", source="test", needs="image", tuning="none", make=make)
    assert compare([unlucky], ["disc"], out=tmp_path / "out", **SMALL).failures()
    worth.pop(0)
    assert not compare([unlucky], ["disc"], out=tmp_path / "out", **SMALL).failures()


def test_a_folder_of_another_comparison_is_refused_unless_resumed(tmp_path: Path) -> None:
    calls: list[int] = []
    compare([counted(calls)], ["disc"], out=tmp_path / "out", **SMALL)
    before = (tmp_path / "out" / "scores.csv").read_bytes()
    with pytest.raises(ConfigError, match=r"seed 0 \(now 7\).*--resume"):
        compare([counted(calls)], ["disc"], out=tmp_path / "out", seed=7, **SMALL)
    with pytest.raises(ConfigError, match=r"methods counted \(now left out\)"):
        compare(["fbp"], ["disc"], out=tmp_path / "out", **SMALL)
    assert (tmp_path / "out" / "scores.csv").read_bytes() == before
    compare([counted(calls)], ["disc"], out=tmp_path / "out", seed=7, resume=True, **SMALL)
    assert (tmp_path / "out" / "scores.csv").read_bytes() != before
    compare([counted(calls)], ["disc"], out=tmp_path / "out", resume=True, **SMALL)
    assert calls == [0, 1, 7, 8]


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ConfigError, match="other files"):
        compare([same], ["disc"], out=tmp_path, **SMALL)
    assert [item.name for item in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("methods", "cases", "settings", "message"),
    [
        (["fpb"], ["disc"], {}, "did you mean fbp"),
        ([], ["disc"], {}, "got none"),
        (["fbp", "fbp"], ["disc"], {}, "fbp twice"),
        (["fbp"], ["shep-logan"], {}, "did you mean shepp-logan"),
        (["fbp"], [], {}, "got none"),
        (["fbp"], ["anatomy-thorax:4..2"], {}, "range"),
        (["fbp"], ["disc"], {"metrics": ["rsme"]}, "rsme"),
        (["fbp"], ["disc"], {"window": None}, "window: expected"),
        (["fbp"], ["disc"], {"draws": 0}, "draws"),
        (["fbp"], ["disc"], {"photons": -1.0}, "photons"),
        (["fbp"], ["disc"], {"preset": "somaton"}, "somatom16"),
        (["fbp"], ["disc"], {"draws": 1, "metrics": ["noise"]}, "draws"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(
    methods: list[Any], cases: list[Any], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        compare(methods, cases, out=tmp_path / "out", **(SMALL | settings))
    assert not (tmp_path / "out").exists()


def test_a_window_is_needed_only_where_it_counts() -> None:
    assert Setup(window=None, metrics=("rmse",)).limits is None


def test_patients_of_the_test_are_apart_from_those_of_tuning_and_training() -> None:
    tuned = Method(
        name="tuned", label="tuned", source="test", needs="image", tuning="strength",
        make=lambda trial, strength: trial.image, trained=lambda patient: patient == "anatomy of a head 77",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="tuning case anatomy-head:903"):
        compare([tuned], ["anatomy-head:903"], **(SMALL | {"budget": 2}))
    with pytest.raises(ConfigError, match="tuned has seen in training"):
        compare([tuned], ["anatomy-jaw:77"], **SMALL)


def test_each_method_tries_as_many_strengths_and_takes_the_best() -> None:
    tried: dict[str, list[float]] = {"right": [], "left": []}
    tests: dict[str, list[float]] = {"right": [], "left": []}

    def method(name: str, best: float) -> Method:
        def make(trial: Any, strength: float) -> torch.Tensor:
            (tried if trial.seed >= 1000 else tests)[name].append(strength)
            return trial.image + 100 * math.log(strength / best)

        return Method(name=name, label=name, source="test", needs="image", tuning="strength", make=make)

    strengths = candidates(4)
    found = compare(
        [method("right", strengths[3]), method("left", strengths[1])], ["shepp-logan"], tuning=["disc"],
        **(SMALL | {"budget": 4}),
    )  # fmt: skip
    assert tried["right"] == tried["left"] == list(strengths)
    assert tests == {"right": [strengths[3]] * 2, "left": [strengths[1]] * 2}
    assert "at the end of the range" in found.entrants[0].tuning
    assert "4 from 0.315 to 10.1, on 1 tuning case" in found.entrants[1].tuning


@pytest.mark.parametrize("budget", range(1, 13))
def test_candidates_hold_the_default_and_are_even_in_their_logarithm(budget: int) -> None:
    found = candidates(budget)
    assert len(found) == budget
    assert 1.0 in found
    assert np.diff(np.log(found), 2) == pytest.approx(0, abs=1e-9)
    assert candidates(6) == pytest.approx((0.25, 0.5, 1, 2, 4, 8))


def image_volume(shift: float, spacing: float = 1.0, size: int = 40) -> Volume:
    grid = VolumeGrid(shape=(1, size, size), spacing=(1.0, spacing, spacing))
    y, x = (axis[:, None] if k == 0 else axis for k, axis in enumerate(grid.axes()[1:]))
    return Volume(values=(50 * torch.cos(y / 9) * torch.cos(x / 9) + shift).float()[None], grid=grid, unit="HU")


def test_a_pair_of_images_is_compared_without_projections() -> None:
    pair = Pair(name="pair", read=lambda: (image_volume(10.0), image_volume(0.0)), content="pair")
    found = compare(["fbp", "pwls-tv"], [pair], metrics=["rmse"], **SMALL)
    assert found.row("pair", "fbp", "rmse").mean == pytest.approx(10, rel=1e-5)
    assert "needs projections" in found.cell("pair", "pwls-tv").message
    assert found.shown[0].kind == "full-dose reconstruction"


def test_a_reference_on_another_grid_is_refused_or_resampled_by_request() -> None:
    pair = Pair(name="pair", read=lambda: (image_volume(10.0), image_volume(0.0, 0.5, 80)), content="pair")
    with pytest.raises(ShapeError, match="--resample"):
        compare(["fbp"], [pair], metrics=["rmse"], **SMALL)
    found = compare(["fbp"], [pair], metrics=["rmse"], resample=True, **SMALL)
    assert found.row("pair", "fbp", "rmse").mean == pytest.approx(10, rel=1e-2)  # interpolation costs 0.2 %
    assert "resampled" in found.shown[0].about


def test_a_measured_scan_is_compared_with_its_full_self(tmp_path: Path) -> None:
    fan = ConeBeam.circular(
        120, detector=Detector(shape=(1, 96), pitch=(3.0, 3.0)), source_to_axis=570, source_to_detector=1040
    )
    scan = simulate(shepp_logan(size=140), fan, dose=Dose(photons=1e5), seed=3)
    write_scan(tmp_path / "scan.h5", scan)
    found = compare(["fbp"], [tmp_path / "scan.h5"], fraction=0.25, metrics=["rmse"], **SMALL)
    assert found.shown[0].about == "measured scan, 60 of 120 views, 25 % of the dose"
    assert found.row("scan.h5", "fbp", "rmse").mean > 5
    with pytest.raises(ConfigError, match="at most half of its views"):
        compare(["fbp"], [tmp_path / "scan.h5"], metrics=["rmse"], **(SMALL | {"views": None}))


def test_objects_and_slices_of_volumes_are_cases(tmp_path: Path) -> None:
    from recon import write_volume

    volume = image_volume(0.0)
    write_volume(tmp_path / "ct.nii.gz", 30 * volume.values.repeat(3, 1, 1), volume.grid.region((3, 40, 40), (0, 0, 0)))
    (case,) = cases_of([f"{tmp_path / 'ct.nii.gz'}@2"])
    with pytest.warns(UserWarning, match="taken for HU"):
        ready = case.prepare(Setup(size=32, preset="hyperfed2", views=30))
    assert ready.reference.shape == (1, 32, 32)
    (thing,) = cases_of([shepp_logan(size=100)])
    assert thing.prepare(Setup(size=32, preset="hyperfed2", views=30)).grid.extent[1] == pytest.approx(
        1.05 * 92, rel=0.01
    )
    with pytest.raises(ConfigError, match="slice from 0 to 2"), pytest.warns(UserWarning, match="taken for HU"):
        cases_of([f"{tmp_path / 'ct.nii.gz'}@3"])[0].prepare(Setup())


def test_intervals_over_draws_are_students() -> None:
    found = over_draws((9.0, 10.0, 11.0))
    assert (found.mean, found.high) == pytest.approx((10, 10 + 4.302653 / math.sqrt(3)))
    assert math.isnan(over_draws((3.0,)).low)
    assert math.isnan(over_draws(()).mean)
    assert math.isnan(over_cases((1.0, math.nan), seed=0).mean)


def test_every_method_says_where_it_is_from() -> None:
    for name, method in methods().items():
        assert method.name == name == method.word
        assert method.label
        assert method.source


def slow_function(path: Path, log: Path, seconds: float = 0.0) -> str:
    path.write_text(
        "import os, time\n"
        "def slow(image):\n"
        f"    time.sleep({seconds})\n"
        f"    with open({str(log)!r}, 'a') as file:\n"
        "        file.write('x')\n"
        "    return image\n"
        "def dies(image):\n"
        "    os._exit(9)\n"
    )
    return f"{path}:slow"


def test_processes_give_the_numbers_of_one_process_and_survive_the_death_of_another(tmp_path: Path) -> None:
    slow = slow_function(tmp_path / "own.py", tmp_path / "log")
    alone = compare(["fbp", slow], ["disc", "shepp-logan"], out=tmp_path / "alone", **SMALL)
    wanted = ["fbp", slow, f"{tmp_path / 'own.py'}:dies"]
    many = compare(wanted, ["disc", "shepp-logan"], out=tmp_path / "many", **(SMALL | {"processes": 2}))
    for row in alone.rows:
        assert many.row(row.case, row.method, row.metric).mean == pytest.approx(row.mean, rel=1e-6)
    assert "ended" in many.cell("disc", "dies").message
    assert len((tmp_path / "log").read_text()) == 8


Caller = Callable[..., Any]


def test_the_command_writes_the_table_and_lists_methods(raymend: Caller, tmp_path: Path) -> None:
    small = ("--preset", "hyperfed2", "--views", 60, "--size", 48, "--draws", 2, "--processes", 1, "--budget", 1)
    found = raymend(
        "compare", "--methods", "fbp,pwls-gibbs", "--cases", "shepp-logan", "--photons", 70000, "--metrics",
        "rmse,ssim",
        "--out", tmp_path / "out", *small,
    )  # fmt: skip
    assert found.code == 0, found.err
    assert "pwls-gibbs" in found.out
    rows = read_csv(tmp_path / "out" / "scores.csv")
    assert {(row["method"], row["metric"]) for row in rows} == {
        (method, metric) for method in ("fbp", "pwls-gibbs") for metric in ("rmse", "ssim")
    }
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000
    listed = raymend("methods")
    assert listed.code == 0
    assert "pwls-spad" in listed.out
    wrong = raymend("compare", "--methods", "nml", "--cases", "disc", "--out", tmp_path / "other")
    assert wrong.code == 2
    assert "did you mean nlm" in wrong.err


def _start(folder: Path, methods: str) -> "subprocess.Popen[bytes]":
    small = "--preset hyperfed2 --views 60 --size 48 --draws 1 --processes 2 --budget 1 --metrics rmse"
    command = [sys.executable, "-m", "raymend", "compare", "--methods", methods, "--cases", "disc,shepp-logan"]
    return subprocess.Popen(
        [*command, "--out", str(folder), *small.split()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@pytest.mark.slow
def test_a_killed_command_goes_on_without_repeating_and_gives_the_same_table(tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    wanted = f"fbp,{slow_function(tmp_path / 'own.py', log, seconds=2)}"
    first = _start(out, wanted)
    deadline = time.monotonic() + 300
    while len(finished := sorted((out / "cells").glob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    first.kill()
    first.communicate()
    times = {path: path.stat().st_mtime_ns for path in finished}
    assert len(finished) >= 2
    assert not (out / "scores.csv").exists()
    for folder in (out, tmp_path / "whole"):
        second = _start(folder, wanted)
        told, _ = second.communicate(timeout=300)
        assert second.returncode == 0, told.decode()
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert (out / "scores.csv").read_text() == (tmp_path / "whole" / "scores.csv").read_text()


def test_ctrl_c_says_that_finished_cells_are_kept(
    raymend: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raymend.comparison import processes

    whole = processes.made

    def stopped(bench: Any, store: Any, job: Any) -> Any:
        if job.method.name == "nlm":
            raise KeyboardInterrupt
        return whole(bench, store, job)

    monkeypatch.setattr(processes, "made", stopped)
    small = ("--preset", "hyperfed2", "--views", 60, "--size", 48, "--draws", 1, "--processes", 1, "--budget", 1)
    found = raymend("compare", "--methods", "fbp,nlm", "--cases", "disc", "--out", tmp_path / "out", *small)
    assert found.code == 130
    assert "goes on" in found.err
    assert len(list((tmp_path / "out" / "cells").glob("*.npy"))) == 3  # of fbp: images, reference and mask


def test_a_changed_function_is_run_again(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    numbers = []
    for shift in (5.0, 50.0):
        helper = f"SHIFT = {shift}\n\n\ndef helper(image):\n    return image + SHIFT\n"
        own.write_text(f"{helper}\n\ndef mine(image):\n    return helper(image)\n")
        found = compare(["fbp", f"{own}:mine"], ["disc"], metrics=["rmse"], out=tmp_path / "out", **SMALL)
        numbers.append(found.row("disc", "mine", "rmse").mean)
    assert numbers[1] > numbers[0] + 5


def test_a_function_that_holds_more_than_its_text_is_run_again(tmp_path: Path) -> None:
    def shifted(amount: float) -> Any:
        def mine(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return image + amount

        return mine

    numbers = [
        compare([shifted(amount)], ["disc"], metrics=["rmse"], out=tmp_path / "out", **SMALL).rows[0].mean
        for amount in (5.0, 50.0)
    ]
    assert numbers[1] > numbers[0] + 5


def test_no_case_is_tuned_on_or_counted_twice() -> None:
    tuned = Method(
        name="tuned", label="tuned", source="test", needs="image", tuning="strength",
        make=lambda trial, strength: trial.image,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="which is tuning case shepp-logan"):
        compare([tuned], ["shepp-logan"], tuning=["shepp-logan"], **(SMALL | {"budget": 2}))
    with pytest.raises(ConfigError, match="unet has seen in training"):
        compare(["unet"], ["shepp-logan"], tuning=["anatomy-thorax:100005"], **(SMALL | {"budget": 2}))
    with pytest.raises(ConfigError, match="you, which is me"):
        compare(["fbp"], {"me": "shepp-logan", "you": "shepp-logan"}, **SMALL)


def test_a_damaged_cell_is_made_again(tmp_path: Path) -> None:
    first = compare(["fbp"], ["disc"], out=tmp_path / "out", **SMALL)
    for file in (tmp_path / "out" / "cells").iterdir():
        file.write_bytes(file.read_bytes()[:20])
    with pytest.warns(UserWarning, match="it is made again"):
        second = compare(["fbp"], ["disc"], out=tmp_path / "out", **SMALL)
    assert second.rows == first.rows


def test_intervals_over_few_cases_are_students() -> None:
    found = over_cases((9.0, 10.0, 11.0), seed=0)
    assert found.high == pytest.approx(10 + 4.302653 / math.sqrt(3))
    change = relative_change((9.0, 18.0), (10.0, 20.0), seed=0)
    assert (change.value, change.low) == pytest.approx((-0.1, -0.1 - 12.706205 * 1 / 15 / 2))
    many = relative_change((9.0, 18.0, 9.5, 9.0, 8.0), (10.0, 20.0, 10.0, 10.0, 10.0), seed=0)
    assert many.low < many.value < many.high < 0
