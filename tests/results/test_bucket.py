"""A store in a bucket: S3's own answers, by a server of this machine that speaks its language."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from moto.server import ThreadedMotoServer

from results import lease, s3
from results.bucket import BucketPath, bucket_path
from results.errors import StoreError, UnreachableError
from results.files import create_exclusive, replace
from results.folder import is_free
from results.fsck import check
from results.place import open_binary, place_of
from results.probe import probe
from results.quarantine import repair
from results.query import query
from results.record import Epoch
from results.store import Store

BUCKET = "peftgrid-tests"


@pytest.fixture(scope="module")
def endpoint():
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint, monkeypatch, request):
    """A prefix of its own in a bucket that is there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3._made_client.cache_clear()
    s3._made_client().create_bucket(Bucket=BUCKET)
    yield bucket_path(f"s3://{BUCKET}/{request.node.name.strip('[]')}")
    s3._made_client.cache_clear()


def test_a_path_names_what_a_path_of_a_folder_would():
    place = place_of("s3://somewhere/a/b/")
    assert str(place) == "s3://somewhere/a/b"
    assert (place / "c.json").name == "c.json"
    assert (place / "c.json").parent == place
    assert str((place / "c.json").relative_to(place)) == "c.json"
    assert (place / "c.json").with_suffix(".parquet").name == "c.parquet"
    assert place.parent.parent == place_of("s3://somewhere")
    assert place.resolve() is place


@pytest.mark.parametrize(
    "text", ["s3://", "s3://UPPER/x", "s3:///x", "s3://some/../x", "s3://some/a//x", "gs://some/x"]
)
def test_an_address_that_names_no_bucket_is_refused(text):
    with pytest.raises(StoreError, match="allowed: a folder, or s3://BUCKET"):
        place_of(text)


def test_of_many_who_create_one_object_one_wins(bucket):
    start = threading.Barrier(16)

    def create(mine):
        start.wait()
        return create_exclusive(bucket / "claim", b"%d" % mine)

    with ThreadPoolExecutor(16) as pool:
        won = [n for n, first in enumerate(pool.map(create, range(16))) if first]
    assert len(won) == 1
    assert (bucket / "claim").read_bytes() == b"%d" % won[0]


def test_a_create_whose_answer_was_lost_is_known_for_its_own(bucket, monkeypatch):
    ask, lost = BucketPath._ask, []

    def loses_the_first_answer(self, request):
        answer = ask(self, request)
        if not lost:
            lost.append(answer)
            return ask(self, request)  # as boto3 does, with the same request
        return answer

    monkeypatch.setattr(BucketPath, "_ask", loses_the_first_answer)
    assert create_exclusive(bucket / "claim", b"mine")
    assert not create_exclusive(bucket / "claim", b"mine")


def test_what_is_listed_read_replaced_and_removed_is_what_a_folder_would_have(bucket):
    assert is_free(bucket)
    for name in ("a/1.json", "a/2.json", "a/.hidden", "b/3.json"):
        create_exclusive(bucket / name, name.encode())
    assert not is_free(bucket)
    assert sorted(place.name for place in bucket.iterdir()) == ["a", "b"]
    assert sorted(place.name for place in (bucket / "a").glob("*.json")) == ["1.json", "2.json"]
    assert sorted(place.name for place in bucket.glob("*/[!.]*")) == ["1.json", "2.json", "3.json"]
    assert (bucket / "a").is_dir()
    assert not (bucket / "a").is_file()
    before = (bucket / "a/1.json").stat()
    replace(bucket / "a/1.json", b"0123456789")
    assert (bucket / "a/1.json").stat().st_ino != before.st_ino
    with open_binary(bucket / "a/1.json") as file:
        file.seek(-3, 2)
        assert file.read() == b"789"
        file.seek(2)
        assert file.read(2) == b"23"
    (bucket / "a/1.json").unlink()
    assert not (bucket / "a/1.json").exists()
    with pytest.raises(FileNotFoundError):
        (bucket / "a/1.json").read_bytes()
    with pytest.raises(FileNotFoundError):
        (bucket / "a/1.json").unlink()


def test_more_objects_than_a_page_has_are_all_listed(bucket, monkeypatch):
    monkeypatch.setattr("results.bucket.PAGE", 10)
    for number in range(25):
        (bucket / f"many/{number}").write_bytes(b"")
    assert len(list((bucket / "many").iterdir())) == 25
    (bucket / "many").remove_all()
    assert not (bucket / "many").exists()


def test_an_attempt_is_committed_once_and_all_of_it_is_read(bucket, attempt):
    store = Store.open(bucket, create=True)
    for run in ("r1", "r2", "r3"):
        assert store.claim(run, {"job": "j"}) == 1
        assert store.commit(attempt(run), [Epoch(run_id=run, attempt=1, epoch=1, split="val")])
    assert not store.commit(attempt("r1", error="a zombie's"))
    other = Store.open(str(bucket))
    assert other.runs().column("run_id").to_pylist() == ["r1", "r2", "r3"]
    assert len(other.epochs()) == 3
    assert other.open_claims() == {}
    assert other.compact() == 1
    assert query(other, "SELECT count(*) AS n FROM runs").to_pylist() == [{"n": 3}]
    assert store.claim("r1", {"job": "j"}) == 2
    store.commit(attempt("r1", 2))
    assert store.compact() == 2
    assert other.gc().attempts == 3
    assert not (bucket / "attempts" / "r2.1.parquet").exists()
    assert len(Store.open(bucket).attempts()) == 4


def test_a_damaged_object_is_found_and_moved_to_quarantine(bucket, attempt):
    store = Store.open(bucket, create=True)
    store.claim("r1", {"job": "j"})
    store.commit(attempt("r1"))
    torn = bucket / "attempts" / "r1.1.parquet"
    torn.write_bytes(torn.read_bytes()[:100])
    report = check(bucket)
    assert [problem.path for problem in report.damaged] == [torn]
    mended = repair(bucket, report)
    assert not mended.after.damaged
    assert not torn.exists()
    assert (bucket / "quarantine/attempts/r1.1.parquet").exists()


def test_a_lease_in_a_bucket_is_seen_beating_and_released(bucket):
    store = Store.open(bucket, create=True)
    with lease.Lease.take(store, "suite", info={}, beat_seconds=0.05) as held:
        held.say({"done": 3})
        seen = lease.newest(store, "suite")
        seen.ask(lease.STOP)
        with pytest.raises(lease.LeaseHeldError):
            lease.Lease.take(store, "suite", info={}, beat_seconds=0.05)
        while not held.asked:
            pass
        assert seen.told["done"] == 3
    assert not seen.alive()


@pytest.fixture
def few_races(monkeypatch):
    monkeypatch.setattr("results.probe.RACES", 3)


@pytest.mark.usefixtures("few_races")
def test_storage_that_keeps_what_a_store_needs_passes_and_leaves_nothing(bucket):
    assert [each.problem for each in probe(bucket)] == [None] * 4
    assert not bucket.exists()


@pytest.mark.usefixtures("few_races")
def test_storage_that_overwrites_in_spite_of_the_condition_is_found(bucket, monkeypatch):
    def overwrites(self, data):
        self.write_bytes(data)
        return True

    monkeypatch.setattr(BucketPath, "create", overwrites)
    problems = {each.what: each.problem for each in probe(bucket)}
    assert "8 were told" in problems["of many who create a file, one wins"]


def test_a_bucket_that_is_not_there_is_unreachable(bucket):
    with pytest.raises(UnreachableError, match="NoSuchBucket"):
        Store.open("s3://no-such-bucket/x", create=True)


def test_a_bucket_without_rights_is_unreachable(bucket, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3._made_client.cache_clear()
    with pytest.raises(UnreachableError, match="credentials"):
        Store.open(bucket, create=True)


def test_an_endpoint_that_does_not_answer_is_unreachable(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3._made_client.cache_clear()
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        Store.open(bucket)


def test_what_is_no_store_is_said_to_be_none(bucket):
    with pytest.raises(StoreError, match="which does not exist"):
        Store.open(bucket)
    (bucket / "other").write_bytes(b"")
    with pytest.raises(StoreError, match="which is not a peftgrid store"):
        Store.open(bucket)
    with pytest.raises(StoreError, match="holds other files"):
        Store.open(bucket, create=True)
