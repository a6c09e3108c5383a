"""Places of publication: a file is there whole or not at all and never changes, in a folder and in S3."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tallystick.errors import InvalidInput, LogForked, Unavailable
from tallystick.evidence import bucket as bucket_module
from tallystick.evidence import directory as directory_module
from tallystick.evidence.places import MAX_PATH_BYTES
from tallystick.evidence.publications import (
    DirectoryPublication,
    Publication,
    S3Publication,
)
from tallystick.journal.tiles import Bundle, Tile
from tests.evidence.published import (
    BUCKET,
    LOG,
    check_readable,
    names_in,
)


def test_what_was_written_is_read_and_what_was_not_is_none(place: Publication) -> None:
    assert place.read("tile/0/000") is None
    place.write("tile/0/000", b"\x00\xff\n", immutable=True)
    place.write("checkpoint", b"note\n", immutable=False)
    place.write("empty", b"", immutable=True)
    assert [place.read(path) for path in ("tile/0/000", "checkpoint", "empty")] == [b"\x00\xff\n", b"note\n", b""]
    assert place.read("tile/0/001") is None
    assert place.read("tile/1/000") is None


def test_an_immutable_file_is_written_once(place: Publication) -> None:
    place.write("tile/0/000", b"one", immutable=True)
    place.write("tile/0/000", b"one", immutable=True)
    for other in (b"two", b"", b"one more", b"on"):
        with pytest.raises(LogForked, match="tile/0/000 was published with other bytes"):
            place.write("tile/0/000", other, immutable=True)
        with pytest.raises(LogForked):
            place.write_many([("tile/0/001", b"x"), ("tile/0/000", other)])
    assert place.read("tile/0/000") == b"one"


def test_a_file_that_changes_is_written_over(place: Publication) -> None:
    for data in (b"one", b"two and more", b"3"):
        place.write("checkpoint", data, immutable=False)
        assert place.read("checkpoint") == data


def test_many_files_at_once_are_all_there(place: Publication) -> None:
    files = [(f"tile/0/x{n // 50:03}/{n % 50:03}", str(n).encode()) for n in range(100)]
    assert place.write_many(iter(files)) == 100
    assert place.write_many(files) == 100
    assert place.write_many([]) == 0
    assert all(place.read(path) == data for path, data in files)


def test_replace_writes_over_what_was_read_and_nothing_else(place: Publication) -> None:
    with pytest.raises(Unavailable, match="meanwhile"):
        place.replace("checkpoint", b"two", before=b"one")
    place.replace("checkpoint", b"one", before=None)
    for wrong in (None, b"two", b""):
        with pytest.raises(Unavailable, match="meanwhile"):
            place.replace("checkpoint", b"three", before=wrong)
    place.replace("checkpoint", b"one", before=None)  # it is there already: an answer that was lost
    place.replace("checkpoint", b"two", before=b"one")
    assert place.read("checkpoint") == b"two"


NO_PATHS = (
    "",
    "/",
    "/etc/passwd",
    "..",
    "../x",
    "a/../../x",
    "a//b",
    "a/",
    "./a",
    "a/.",
    ".lock",
    ".new/0",
    "a/.b",
    "a\\b",
    "a b",
    "a\n",
    "a\0",
    "ä",
    "a%2e",
    "~",
    "a:b",
    "x" * (MAX_PATH_BYTES + 1),
)


def test_a_path_that_is_none_is_refused(place: Publication) -> None:
    calls: list[Callable[[str], Any]] = [
        place.read,
        lambda path: place.write(path, b"x", immutable=True),
        lambda path: place.write(path, b"x", immutable=False),
        lambda path: place.write_many([("fine", b"x"), (path, b"x")]),
        lambda path: place.replace(path, b"x", before=None),
    ]
    for path in NO_PATHS:
        for call in calls:
            with pytest.raises(InvalidInput, match="not a relative path"):
                call(path)


def test_every_path_of_a_log_is_one(place: Publication) -> None:
    paths = [Tile(level=63, number=2**55 - 1, width=255).path, Bundle(number=10**9).path, f"checkpoints/{2**63}"]
    for path in [*paths, "manifest.json", "keys/ledger.example_log.vkey", "log.vkey"]:
        place.write(path, b"x", immutable=True)
        assert place.read(path) == b"x"


def test_of_many_who_replace_the_same_one_does(place: Publication) -> None:
    place.write("checkpoint", b"before", immutable=False)

    def attempt(n: int) -> bool:
        try:
            place.replace("checkpoint", str(n).encode(), before=b"before")
        except Unavailable:
            return False
        return True

    if isinstance(place, S3Publication):  # moto does not judge conditions atomically
        won = [attempt(n) for n in range(4)]
    else:
        with ThreadPoolExecutor(4) as pool:
            won = list(pool.map(attempt, range(8)))
    assert won.count(True) == 1
    assert place.read("checkpoint") == str(won.index(True)).encode()


# ---------------------------------------------------------------- a folder


def test_a_folder_holds_the_files_of_the_paths_and_no_drafts(tmp_path: Path) -> None:
    place = DirectoryPublication(tmp_path / "new" / "log")
    place.write_many([("tile/0/000", b"one"), ("tile/0/001.p/5", b"two")])
    place.write("checkpoint", b"three", immutable=False)
    assert names_in(tmp_path / "new" / "log") == {"tile/0/000", "tile/0/001.p/5", "checkpoint"}


def test_no_link_leads_out_of_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "000").write_bytes(b"secret")
    root = tmp_path / "log"
    (root / "tile").mkdir(parents=True)
    (root / "tile" / "0").symlink_to(outside)
    (root / "entries").symlink_to(outside / "000")
    place = DirectoryPublication(root)
    for path in ("tile/0/000", "entries", "entries/000"):
        with pytest.raises(InvalidInput, match="links are not followed"):
            place.read(path)
        with pytest.raises(InvalidInput, match="links are not followed"):
            place.write(path, b"x", immutable=True)
        with pytest.raises(InvalidInput, match="links are not followed"):
            place.replace(path, b"x", before=None)
    with pytest.raises(InvalidInput, match="links are not followed"):
        place.write("tile/0/001", b"x", immutable=False)
    place.write("entries", b"new", immutable=False)  # takes the link's name and leaves alone where it led
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"000": b"secret"}
    assert place.read("entries") == b"new"


def test_drafts_do_not_go_through_a_link_either(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / ".new").symlink_to(tmp_path / "outside")
    with pytest.raises(InvalidInput, match="links are not followed"):
        DirectoryPublication(tmp_path / "log").write("checkpoint", b"x", immutable=False)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_pipe_or_a_folder_in_a_files_place_is_refused(tmp_path: Path) -> None:
    place = DirectoryPublication(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(InvalidInput, match="no plain file"):
            place.read(name)
        with pytest.raises(InvalidInput, match="no plain file"):
            place.write(name, b"x", immutable=True)


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable, match="cannot be read or written"):
        DirectoryPublication(tmp_path / "file").write("checkpoint", b"x", immutable=False)


class Trouble:
    """Lets the system's call ``name`` fail from its ``nth`` use on; of each use it notes that it was."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str, nth: int, error: int) -> None:
        self.uses = 0
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self.uses += 1
            if self.uses > nth:
                raise OSError(error, os.strerror(error))
            return real(*arguments, **options)

        patch.setattr(directory_module.os, name, call)


@pytest.mark.parametrize(("name", "error"), [("open", 13), ("mkdir", 30), ("fsync", 28), ("rename", 5)])
def test_trouble_at_any_call_is_told_and_leaves_a_log_that_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: int
) -> None:
    said: list[str] = []
    for nth in range(200):
        place = DirectoryPublication(tmp_path / f"{name}{nth}")
        LOG.publish(place, 250)
        with monkeypatch.context() as patch:
            trouble = Trouble(patch, name, nth, error)
            try:
                LOG.publish(place, 600)
            except Unavailable as told:
                said.append(str(told))
        size = check_readable(place)
        if trouble.uses <= nth:
            assert size == 600
            break
        # Only when the checkpoint has its name can it be the new one, and then all else is there.
        assert size == 250 or name in ("open", "fsync")
        assert LOG.publish(place, 600).size == 600
        assert check_readable(place) == 600
        assert not any(path.startswith(".new") for path in names_in(place.folder))
    else:
        pytest.fail("it never came through")
    assert len(said) > 3
    assert all(os.strerror(error) in text for text in said)


def test_a_full_disk_is_told_and_nothing_of_the_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = DirectoryPublication(tmp_path)
    place.write("checkpoint", b"old", immutable=False)
    with monkeypatch.context() as patch:
        Trouble(patch, "fsync", 0, 28)
        with pytest.raises(Unavailable, match=r"checkpoint .* No space left on device"):
            place.write("checkpoint", b"new", immutable=False)
        with pytest.raises(Unavailable, match=r"tile/0/000 or one of the 1 files after it .* No space left"):
            place.write_many([("tile/0/000", b"x"), ("tile/0/001", b"x")])
    assert place.read("checkpoint") == b"old"
    assert names_in(tmp_path) == {"checkpoint"}


def test_bytes_and_names_reach_the_disk_before_write_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = DirectoryPublication(tmp_path / "log")
    steps: list[str] = []
    real = {name: getattr(os, name) for name in ("fsync", "rename")}

    def fsync(descriptor: int) -> None:
        steps.append("sync " + os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), tmp_path))
        real["fsync"](descriptor)

    def rename(source: str, target: str, **options: Any) -> None:
        steps.append(f"name {target}")
        real["rename"](source, target, **options)

    monkeypatch.setattr(directory_module.os, "fsync", fsync)
    monkeypatch.setattr(directory_module.os, "rename", rename)
    place.write_many([("tile/0/000", b"x"), ("tile/0/001", b"y")])
    drafts, named = [steps.index(f"sync log/.new/{n}") for n in (0, 1)], [steps.index(f"name 00{n}") for n in (0, 1)]
    assert max(drafts) < min(named)
    after = steps[max(named) :]
    assert {"sync log/tile/0", "sync log/tile", "sync log"} <= set(after)
    assert "sync ." in steps  # the folder that got the new folder


def test_leavings_of_a_process_that_died_are_written_over(tmp_path: Path) -> None:
    place = DirectoryPublication(tmp_path)
    (tmp_path / ".new").mkdir()
    (tmp_path / ".new" / "0").write_bytes(b"half of something much longer")
    place.write("checkpoint", b"new", immutable=False)
    assert place.read("checkpoint") == b"new"
    assert names_in(tmp_path) == {"checkpoint"}


def test_whoever_waits_too_long_for_the_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_module, "LOCK_SECONDS", 0.05)
    first, second = DirectoryPublication(tmp_path), DirectoryPublication(tmp_path)
    with first._exclusive(), pytest.raises(Unavailable, match="another process has been writing"):
        second.write("checkpoint", b"x", immutable=False)
    second.write("checkpoint", b"x", immutable=False)


def test_few_files_are_open_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, most = DirectoryPublication(tmp_path), 0

    def count(*_: Any, **__: Any) -> None:
        nonlocal most
        most = max(most, len(os.listdir("/proc/self/fd")))

    monkeypatch.setattr(directory_module.os, "fsync", count)
    before = len(os.listdir("/proc/self/fd"))
    files = [(f"tile/0/x{n:03}/000.p/1", b"x") for n in range(2 * directory_module.FILES_AT_ONCE)]
    assert place.write_many(files) == len(files)
    assert len(os.listdir("/proc/self/fd")) == before
    assert directory_module.FILES_AT_ONCE < most < before + 230


# ---------------------------------------------------------------- S3


def test_objects_have_the_types_and_the_caching_of_tlog_tiles(s3: Any) -> None:
    place = S3Publication(BUCKET, "log/", client=s3)
    LOG.publish(place, 300)
    place.write("manifest.json", b"{}", immutable=True)
    found = {key: s3.head_object(Bucket=BUCKET, Key=f"log/{key}") for key in ("checkpoint", "checkpoints/300")}
    found |= {key: s3.head_object(Bucket=BUCKET, Key=f"log/{key}") for key in ("tile/0/000", "tile/entries/001.p/44")}
    types = {key: answer["ContentType"] for key, answer in found.items()}
    assert types == {
        "checkpoint": "text/plain; charset=utf-8",
        "checkpoints/300": "text/plain; charset=utf-8",
        "tile/0/000": "application/octet-stream",
        "tile/entries/001.p/44": "application/octet-stream",
    }
    caching = {key: answer["CacheControl"] for key, answer in found.items()}
    assert caching.pop("checkpoint") == "max-age=2, must-revalidate"
    assert set(caching.values()) == {"max-age=31536000, immutable"}
    assert s3.head_object(Bucket=BUCKET, Key="log/manifest.json")["ContentType"] == "application/json"


def test_a_locked_version_cannot_be_deleted_and_a_checkpoint_can_change(s3: Any) -> None:
    place = S3Publication(BUCKET, client=s3, retain_years=7)
    LOG.publish(place, 100)
    LOG.publish(place, 300)
    for key in ("tile/0/000", "tile/0/000.p/100", "tile/entries/000", "checkpoints/100", "checkpoints/300"):
        version = s3.head_object(Bucket=BUCKET, Key=key)
        assert version["ObjectLockMode"] == "COMPLIANCE"
        with pytest.raises(ClientError, match="AccessDenied"):
            s3.delete_object(Bucket=BUCKET, Key=key, VersionId=version["VersionId"], BypassGovernanceRetention=True)
    assert "ObjectLockMode" not in s3.head_object(Bucket=BUCKET, Key="checkpoint")
    assert check_readable(place) == 300


def test_without_retention_nothing_is_locked(s3: Any) -> None:
    LOG.publish(S3Publication(BUCKET, client=s3), 10)
    version = s3.head_object(Bucket=BUCKET, Key="tile/0/000.p/10")
    assert "ObjectLockMode" not in version
    s3.delete_object(Bucket=BUCKET, Key="tile/0/000.p/10", VersionId=version["VersionId"])


@pytest.mark.parametrize(
    ("now", "years", "until"),
    [
        (datetime(2026, 11, 21, 9, tzinfo=UTC), 1, datetime(2027, 11, 21, 9, tzinfo=UTC)),
        (datetime(2026, 11, 21, 9, tzinfo=UTC), 100, datetime(2126, 11, 21, 9, tzinfo=UTC)),
        (datetime(2028, 2, 29, 9, tzinfo=UTC), 7, datetime(2035, 3, 1, 9, tzinfo=UTC)),
        (datetime(2028, 2, 29, 9, tzinfo=UTC), 4, datetime(2032, 2, 29, 9, tzinfo=UTC)),
    ],
)
def test_retention_ends_so_many_years_after_the_writing(s3: Any, now: datetime, years: int, until: datetime) -> None:
    S3Publication(BUCKET, client=s3, retain_years=years, clock=lambda: now).write("a", b"x", immutable=True)
    assert s3.head_object(Bucket=BUCKET, Key="a")["ObjectLockRetainUntilDate"] == until


@pytest.mark.parametrize("years", [0, -1, 101])
def test_a_retention_that_s3_does_not_have_is_refused(years: int) -> None:
    with pytest.raises(InvalidInput, match="not 1 to 100"):
        S3Publication(BUCKET, retain_years=years, client=object())


def test_a_bucket_without_object_lock_or_no_bucket_is_told(s3: Any) -> None:
    with pytest.raises(InvalidInput, match="has no Object Lock"):
        S3Publication("plain", retain_years=1, client=s3).write("a", b"x", immutable=True)
    for call in (lambda p: p.read("a"), lambda p: p.write("a", b"x", immutable=True)):
        with pytest.raises(InvalidInput, match="there is no bucket"):
            call(S3Publication("missing", client=s3))


class Scripted:
    """A client that answers ``put_object`` with an error, or does what it is told first, before it passes it on."""

    def __init__(self, client: Any, *script: str | Callable[[], None]) -> None:
        self._client, self.script, self.puts = client, list(script), 0
        self.exceptions = client.exceptions

    def get_object(self, **options: Any) -> Any:
        return self._client.get_object(**options)

    def put_object(self, **options: Any) -> Any:
        self.puts += 1
        step = self.script.pop(0) if self.script else None
        if isinstance(step, str):
            raise ClientError({"Error": {"Code": step, "Message": "because of the test"}}, "PutObject")
        if step is not None:
            step()
        return self._client.put_object(**options)


def test_a_conflict_of_conditional_writes_is_tried_again_and_not_for_ever(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module.time, "sleep", lambda _: None)
    client = Scripted(s3, "ConditionalRequestConflict", "ConditionalRequestConflict")
    S3Publication(BUCKET, client=client).write("a", b"x", immutable=True)
    assert client.puts == 3
    client = Scripted(s3, *["ConditionalRequestConflict"] * 50)
    with pytest.raises(Unavailable, match="does not end"):
        S3Publication(BUCKET, client=client).write("b", b"x", immutable=True)
    assert client.puts == bucket_module.CONFLICTS


def test_a_put_whose_answer_was_lost_finds_itself_there(s3: Any) -> None:
    def put(key: str, data: bytes) -> Callable[[], None]:
        return lambda: s3.put_object(Bucket=BUCKET, Key=key, Body=data)

    S3Publication(BUCKET, client=Scripted(s3, put("a", b"x"))).write("a", b"x", immutable=True)
    S3Publication(BUCKET, client=Scripted(s3, put("c", b"x"))).replace("c", b"x", before=None)
    S3Publication(BUCKET, client=Scripted(s3, put("c", b"y"))).replace("c", b"y", before=b"x")


def test_another_publisher_between_the_look_and_the_put_is_found_by_s3(s3: Any) -> None:
    def put(key: str, data: bytes) -> Callable[[], None]:
        return lambda: s3.put_object(Bucket=BUCKET, Key=key, Body=data)

    with pytest.raises(LogForked):
        S3Publication(BUCKET, client=Scripted(s3, put("a", b"other"))).write("a", b"x", immutable=True)
    for before, other in ((None, b"other"), (b"other", b"another")):
        with pytest.raises(Unavailable, match="meanwhile"):
            S3Publication(BUCKET, client=Scripted(s3, put("c", other))).replace("c", b"x", before=before)
        assert S3Publication(BUCKET, client=s3).read("c") == other


@pytest.mark.parametrize("code", ["AccessDenied", "SlowDown", "InternalError", "ExpiredToken"])
def test_what_s3_refuses_is_told_and_the_old_checkpoint_stays(s3: Any, code: str) -> None:
    LOG.publish(S3Publication(BUCKET, client=s3), 100)
    for at in range(4):
        log = S3Publication(BUCKET, client=Scripted(s3, *[lambda: None] * at, code))
        with pytest.raises(Unavailable, match=f"{code}.*because of the test"):
            LOG.publish(log, 200)
        assert check_readable(S3Publication(BUCKET, client=s3)) == 100
