"""What `doctor` says of this machine; of folders and buckets, see tests/results/test_probe.py."""

import json


def test_doctor_tells_where_decoded_images_are_and_how_many_bytes_they_may_take(
    peftgrid, tmp_path, monkeypatch
):
    monkeypatch.setenv("PEFTGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PEFTGRID_CACHE_GB", "3")
    folder = tmp_path / "cache" / "decoded"
    folder.mkdir(parents=True)
    (folder / "a.u8").write_bytes(b"0" * 1000)
    code, out, _ = peftgrid("doctor", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["decoded"] == {"folder": str(folder), "bytes": 1000, "limit": 3_000_000_000}
    assert set(told["packages"]) == {"adapters", "orchestrator", "results", "suites"}
    code, out, _ = peftgrid("doctor")
    assert out.splitlines()[-1] == f"decoded images {folder} (0.0 GB, at most 3 GB)"


def test_a_limit_that_is_no_number_is_a_mistake_of_usage(peftgrid, tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PEFTGRID_CACHE_GB", "much")
    code, _, err = peftgrid("doctor")
    assert code == 2
    assert "PEFTGRID_CACHE_GB: 'much' given, allowed: a number of gigabytes" in err
