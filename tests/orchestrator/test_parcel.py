"""What travels to a cluster works by itself, a lab's own files in it."""

import json
import subprocess
import sys

import pytest

from adapters import plugins
from orchestrator.packages import version
from orchestrator.parcel import SUITE_FILE, pack

OWN = """
from adapters.methods.linear import *  # noqa: F403
PAPER = "a lab's own"
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder of plugins, in use."""
    folder = tmp_path / "lab"
    (folder / "methods").mkdir(parents=True)
    (folder / "methods" / "labs_own.py").write_text(OWN)
    monkeypatch.setenv(plugins.VARIABLE, str(folder))
    return folder


def python(folder, code, **variables):
    """What Python says where nothing else is on its path before the parcel."""
    before = f"import sys; sys.path.insert(0, {str(folder)!r})\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", before + code], capture_output=True, text=True, env=variables
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_parcel_is_a_whole_peftgrid_that_knows_its_version_and_where_it_was_sent_from(
    tmp_path, make_suite
):
    parcel = tmp_path / "parcel"
    parcel.mkdir()
    suite = make_suite("travels")
    pack(parcel, suite)
    assert (parcel / SUITE_FILE).read_text() == suite.text
    assert not list(parcel.rglob("__pycache__"))
    code = "from orchestrator import packages, provenance; packages.check(); import json\n"
    said = python(parcel, code + "print(packages.version(), packages.found()['adapters'])")
    assert said == f"{version()} {parcel / 'adapters' / '__init__.py'}"
    sent = json.loads((parcel / "peftgrid-source.json").read_text())
    there = python(parcel, code + "print(json.dumps(provenance.of_source()))")
    assert json.loads(there) == sent
    assert set(sent) == {"git_commit", "git_dirty"}


def test_a_labs_own_method_travels_and_its_digest_becomes_a_version(tmp_path, lab):
    parcel = tmp_path / "parcel"
    parcel.mkdir()
    pack(parcel, None)
    code = "from adapters import registry; print(registry.method('labs_own').PAPER)"
    assert python(parcel, code) == "a lab's own"
    code = "from orchestrator import provenance; print(provenance.of_packages()['plugins'])"
    assert python(parcel, code) == plugins.digest(lab)


def test_a_labs_own_method_is_known_here(lab, peftgrid, tmp_path):
    code = "from adapters import registry; print('labs_own' in registry.names('methods'))"
    from_here = f"import sys; sys.path.insert(0, {str(plugins.__file__.rsplit('/', 2)[0])!r})\n"
    assert python(tmp_path, from_here + code, PEFTGRID_PLUGINS=str(lab)) == "True"
    assert python(tmp_path, from_here + code) == "False"


def test_a_plugin_with_the_name_of_one_of_ours_is_refused(lab):
    (lab / "methods" / "lora.py").write_text("")
    with pytest.raises(
        plugins.PluginError, match=r"lora\.py has the name of one of peftgrid's own"
    ):
        plugins.files(lab)


def test_a_folder_without_plugins_is_refused(tmp_path):
    with pytest.raises(plugins.PluginError, match=r"allowed: methods/NAME\.py"):
        plugins.files(tmp_path)


def test_the_digest_changes_with_a_name_and_with_a_content(lab):
    first = plugins.digest(lab)
    (lab / "methods" / "labs_own.py").write_text(OWN + "\n")
    second = plugins.digest(lab)
    (lab / "methods" / "labs_own.py").rename(lab / "methods" / "labs_other.py")
    assert len({first, second, plugins.digest(lab)}) == 3
