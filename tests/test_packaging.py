"""The wheel: what is in it, and that it works from another folder without the checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The `peftgrid` of a fresh environment that has the wheel, and this one's other packages."""
    home = tmp_path_factory.mktemp("fresh")
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    (site,) = home.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, wheel], check=True, capture_output=True)
    # A plain path: the .pth file of the editable install lying there is not read.
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin" / "peftgrid"


def run(command, *words, folder):
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([command, *words], cwd=folder, capture_output=True, text=True, env=clean)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_four_packages_with_their_data_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        *("adapters", "orchestrator", "results", "suites")
    }
    for needed in (
        "suites/quickstart.yaml",
        "adapters/data/assets/fashion_mnist.npz",
        "adapters/data/assets/fashion_mnist.LICENSE",
        "adapters/backbones/assets/vit_tiny_fashion.safetensors",
        "results/report/static/page.html.jinja",
        "results/report/static/report.css",
        "results/report/static/report.js",
    ):
        assert needed in names
    assert any(name.endswith("licenses/NOTICE") for name in names)


def test_from_another_folder_it_writes_a_report_with_its_files(installed, tmp_path):
    python = installed.parent / "python"
    code = "from results.report import page; print(len(page.index('store', ['demo'])))"
    assert int(run(python, "-c", code, folder=tmp_path)) > 5000


def test_from_another_folder_it_finds_the_shipped_suites_and_is_itself(installed, tmp_path):
    assert "24 runs" in run(installed, "validate", "quickstart", folder=tmp_path)
    places = run(installed, "doctor", folder=tmp_path).splitlines()[:4]
    assert all(str(installed.parent.parent) in place for place in places)


@pytest.mark.ray
@pytest.mark.slow
def test_from_another_folder_it_runs_the_smoke_suite(installed, tmp_path):
    report = json.loads(run(installed, "run", "smoke", "--json", folder=tmp_path))
    assert (report["succeeded"], report["failed"], report["left"]) == (4, 0, 0)
    again = json.loads(run(installed, "run", "smoke", "--json", folder=tmp_path))
    assert again["started"] == 0
    rows = run(
        installed, "query", "SELECT test_top1 FROM runs", "--format", "json", folder=tmp_path
    )
    assert len(json.loads(rows)) == 4
