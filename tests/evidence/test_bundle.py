"""Export bundles: what is exported passes the verifier that goes with it, wherever the window lies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import tallystick
from tallystick import Erasable, Ledger
from tallystick.erasable import commitment_of
from tallystick.errors import InvalidInput, LedgerCorrupt, LogForked, NoteInvalid
from tallystick.events import EVENT_TYPES
from tallystick.evidence.bundle import export
from tallystick.journal.checkpoints import cosign, with_signatures
from tallystick.journal.notes import ML_DSA_44, SecretKey
from tallystick.schema import schema_text
from tallystick.stores.memory import MemoryStore
from tests.evidence.bundle_support import VKEY, change_file, files_of, ledger_of, open_log, passed, run_verifier
from tests.model.trial import Trial
from tests.support.engine import Engine
from tests.support.story import tell as tell_story
from tests.support.tiles import bundles_of, tiles_of
from tests.verify.bundles import (
    KEY,
    NOON,
    OTHER_KEY,
    WITNESS,
    checkpoint_of,
    events_of,
    failures,
    forged,
    judged,
    receipt_of,
    rechained,
)
from tests.verify.conftest import journey, told, trade
from tests.verify.forgeries import FORGERIES
from tests.verify.journey import read_bodies
from tests.verify.replay import replay

__all__ = ["journey", "told", "trade"]

ALICE, BOB, USD = "users:alice", "users:bob", "USD/2"
POLICY = f"log {KEY.verifier}\nwitness w1 {WITNESS.verifier}\nquorum w1\n"


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with tallystick.open("memory://") as database:
        found = database.ledger("main")
        found.mint(ALICE, USD, 10_000, key="fund")
        yield found


# ---------------------------------------------------------------- what is exported passes


def test_a_bundle_of_every_event_type_passes_with_nothing_of_tallystick_at_hand(tmp_path: Path, journey: list[bytes]):
    assert {event["type"] for event in events_of(journey)} >= EVENT_TYPES.keys()
    with ledger_of(journey) as told_again:
        done = export(open_log(told_again, tmp_path / "home"), tmp_path / "bundle")
    code, report = run_verifier(tmp_path / "bundle")
    words = {name: verdict["verdict"] for name, verdict in report["verdicts"].items()}
    assert (code, words) == (
        0,
        {
            **dict.fromkeys(("bytes", "chain", "tree", "accounting"), "passed"),
            **dict.fromkeys(("outside", "attestation"), "not checked"),
        },
    )
    assert (done.size, done.first, done.end, done.files) == (79, 0, 79, len(files_of(tmp_path / "bundle")))
    assert report["notes"] == []


def test_the_story_of_every_store_passes(tmp_path: Path):
    store = MemoryStore()
    engine = tell_story(Engine(store))
    bodies = store.events("main", 0, 1_000)
    assert len(bodies) == engine.book.seq > 60
    with ledger_of(bodies) as story:
        log = open_log(story, tmp_path / "home")
        export(log, tmp_path / "bundle")
        passed(tmp_path / "bundle")
        for first in range(1, len(bodies), 9):
            export(log, tmp_path / str(first), first=first)
            passed(tmp_path / str(first))


@pytest.mark.parametrize("seed", range(3))
def test_a_random_history_passes_whole_and_from_anywhere_on(tmp_path: Path, seed: int):
    trial = Trial("memory://", 7_100 + seed, reopen=False)
    try:
        for _ in range(60):
            trial.step()
        log = open_log(trial.ledger, tmp_path / "home")
        size = export(log, tmp_path / "whole").size
        bodies = read_bodies(trial.database, "main")
        for first in (1, size // 3, size // 2, size - 1):
            export(log, tmp_path / f"from{first}", first=first)
            check_opening(tmp_path / f"from{first}", bodies, first)
    finally:
        trial.close()
    passed(tmp_path / "whole")
    for first in (1, size // 3, size // 2, size - 1):
        passed(tmp_path / f"from{first}")


@pytest.mark.parametrize(
    ("first", "end"),
    [(0, 1), (0, 256), (0, 257), (1, 700), (255, 256), (255, 257), (256, 512), (300, 301), (511, 700), (699, 700)],
)
def test_a_window_anywhere_holds_its_bundles_alone_and_passes(tmp_path: Path, trade: list[bytes], first: int, end: int):
    with ledger_of(trade) as told_again:
        export(open_log(told_again, tmp_path / "home"), tmp_path / "bundle", first=first, end=end)
    files = files_of(tmp_path / "bundle")
    hashes = {path for path in files if path.startswith("tile/") and not path.startswith("tile/entries/")}
    entries = {path for path in files if path.startswith("tile/entries/")}
    assert hashes == {tile.path for tile in tiles_of(700)}
    assert entries == {
        bundle.path
        for bundle in bundles_of(700)
        if bundle.number * 256 < end and bundle.number * 256 + bundle.width > first
    }
    assert ("opening.json" in files) == (first > 0)
    report = passed(tmp_path / "bundle")
    assert report["window"] == f"{first} to {end}"


@pytest.mark.parametrize("size", [1, 256, 257, 512, 513, 700])
def test_tiles_that_are_written_before_the_end_are_those_of_the_end(
    tmp_path: Path, trade: list[bytes], monkeypatch: pytest.MonkeyPatch, size: int
):
    """What bounds the memory of a long log, which one of a few rows would never meet."""
    monkeypatch.setattr("tallystick.evidence.bundle.ROWS_PER_TILES", 1)
    with ledger_of(trade[:size]) as told_again:
        export(open_log(told_again, tmp_path / "home"), tmp_path / "bundle")
    passed(tmp_path / "bundle")


def check_opening(folder: Path, bodies: list[bytes], first: int) -> None:
    """The opening says what the verifier's own book, which shares no code with the ledger's, comes to by replaying."""
    opening = json.loads((folder / "opening.json").read_bytes())
    _, book = replay(bodies[:first])
    assert opening["first"] == first
    assert {(row["account"], row["asset"], row["bucket"]): (int(row["amount"]), row["version"])
            for row in opening["balances"]} == {
        (account, asset, bucket): found
        for (asset, bucket), pocket in book.pockets.items()
        for account, found in pocket.items()
    }  # fmt: skip
    assert {row["id"]: (row["kind"], row["account"], row["asset"], int(row["left"]), row["expires"])
            for row in opening["locks"]} == {
        id_: (lock.kind, lock.account, lock.asset, lock.left, lock.expires) for id_, lock in book.locks.items()
    }  # fmt: skip
    accounts = {
        row["account"]: (row["status"], numbers(row["limits"]), numbers(row["ceilings"]), row["floorless"])
        for row in opening["accounts"]
    }
    assert accounts == {
        address: (account.status, account.limits, account.ceilings, account.floorless)
        for address, account in book.accounts.items()
    }
    assert opening["policy"] == vars(book.rules)
    assert {row["name"] for row in opening["types"]} == book.types.keys()
    assert set(opening["assets"]) == set(book.assets.values())
    assert opening["closed_until"] == book.closed_until


def numbers(amounts: dict[str, str]) -> dict[str, int]:
    return {asset: int(amount) for asset, amount in amounts.items()}


def test_the_opening_of_every_window_of_the_journey_is_exact(tmp_path: Path, journey: list[bytes]):
    with ledger_of(journey) as told_again:
        log = open_log(told_again, tmp_path / "home")
        for first in range(1, len(journey), 3):
            export(log, tmp_path / str(first), first=first)
            check_opening(tmp_path / str(first), journey, first)
            passed(tmp_path / str(first))


def test_everything_the_layout_names_is_there(tmp_path: Path, journey: list[bytes]):
    with ledger_of(journey) as told_again:
        export(open_log(told_again, tmp_path / "home"), tmp_path / "bundle", policy=POLICY)
    files = files_of(tmp_path / "bundle")
    assert files["spec/events.schema.json"].decode() == schema_text()
    assert files["spec/PROFILE.md"].startswith(b"# Event profile 1\n")
    root = Path(__file__).parents[2]
    assert files["spec/verify.py"] == (root / "src/tallystick/verify.py").read_bytes()
    assert files["policy"].decode() == POLICY
    assert files["log.vkey"].decode() == files["keys/ledger.example_main.vkey"].decode() == f"{VKEY}\n"
    assert files["checkpoint"] == files["checkpoints/79"]
    manifest = json.loads(files["manifest.json"])
    assert manifest["files"].keys() | {"manifest.json"} == files.keys()
    assert not any(path.startswith(".") or "/." in path for path in files)


def test_exporting_twice_gives_the_same_bytes(tmp_path: Path, trade: list[bytes]):
    with ledger_of(trade) as told_again:
        log = open_log(told_again, tmp_path / "home")
        for name in ("one", "two"):
            export(log, tmp_path / name, first=300, openings=True)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


# ---------------------------------------------------------------- checkpoints, keys and witnesses


def test_news_are_signed_first_and_every_kept_checkpoint_goes_along(tmp_path: Path, ledger: Ledger):
    log = open_log(ledger, tmp_path / "home")
    for number in range(3):
        ledger.transfer(ALICE, BOB, USD, 1, key=f"t{number}")
        log.checkpoint()
    ledger.transfer(ALICE, BOB, USD, 1, key="news")
    assert export(log, tmp_path / "signed", sign=False).size == 5
    assert export(log, tmp_path / "bundle").size == 6
    kept = sorted(path for path in files_of(tmp_path / "bundle") if path.startswith("checkpoints/"))
    assert kept == ["checkpoints/3", "checkpoints/4", "checkpoints/5", "checkpoints/6"]
    passed(tmp_path / "bundle")
    passed(tmp_path / "signed")
    older = (tmp_path / "bundle/checkpoints/3").read_bytes()
    passed(tmp_path / "bundle", "outside", checkpoints=[older])


def test_after_a_rotation_the_bundle_names_the_new_key_and_holds_both(tmp_path: Path, ledger: Ledger):
    log = open_log(ledger, tmp_path / "home")
    log.checkpoint()
    log.rotate(OTHER_KEY, key="rotate")
    ledger.transfer(ALICE, BOB, USD, 1, key="after")
    export(log, tmp_path / "bundle")
    files = files_of(tmp_path / "bundle")
    assert files["log.vkey"].decode() == f"{OTHER_KEY.verifier}\n"
    assert files["keys/ledger.example_main.vkey"].decode() == f"{KEY.verifier}\n{OTHER_KEY.verifier}\n"
    passed(tmp_path / "bundle", keys=())
    passed(tmp_path / "bundle", keys=[str(OTHER_KEY.verifier)])
    log.rotate(KEY, key="back again")
    ledger.transfer(ALICE, BOB, USD, 1, key="last")
    export(log, tmp_path / "back")
    assert (tmp_path / "back/log.vkey").read_text() == f"{KEY.verifier}\n"
    passed(tmp_path / "back", keys=())


def test_a_log_with_a_second_signature_of_another_kind_passes(tmp_path: Path, ledger: Ledger):
    second = SecretKey.from_seed(KEY.name, b"\4" * 32, ML_DSA_44)
    export(open_log(ledger, tmp_path / "home", more=[second]), tmp_path / "bundle")
    assert (tmp_path / "bundle/log.vkey").read_text() == f"{VKEY}\n"
    assert (tmp_path / "bundle/keys/ledger.example_main.vkey").read_text() == f"{VKEY}\n{second.verifier}\n"
    passed(tmp_path / "bundle", keys=())


def test_a_cosigned_checkpoint_stands_up_to_the_policy_in_the_bundle(tmp_path: Path, ledger: Ledger):
    log = open_log(ledger, tmp_path / "home")
    note = log.checkpoint()
    assert note is not None
    export(log, tmp_path / "before", policy=POLICY.encode())
    ledger.journal.keep([], 2, with_signatures(note, [cosign(note, WITNESS, NOON)]))
    export(log, tmp_path / "bundle", policy=POLICY)
    code, report = run_verifier(tmp_path / "bundle", "--policy", "policy")
    assert (code, report["verdicts"]["outside"]["detail"]) == (0, "cosigned by witness.example/w1")
    assert run_verifier(tmp_path / "before", "--policy", "policy")[0] == 1


def test_a_policy_that_is_none_is_refused_before_anything_is_written(tmp_path: Path, ledger: Ledger):
    with pytest.raises(NoteInvalid):
        export(open_log(ledger, tmp_path / "home"), tmp_path / "bundle", policy="quorum nobody\n")
    assert not (tmp_path / "bundle").exists()


def test_a_log_of_which_nothing_was_signed_has_nothing_to_export(tmp_path: Path, ledger: Ledger):
    log = open_log(ledger, tmp_path / "home")
    with pytest.raises(InvalidInput, match="nothing of it was signed"):
        export(log, tmp_path / "bundle", sign=False)
    with tallystick.open("memory://") as database:
        empty = open_log(database.ledger("main"), tmp_path / "home of none")
        with pytest.raises(InvalidInput, match="nothing of it was signed"):
            export(empty, tmp_path / "bundle")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "home of none"]


@pytest.mark.parametrize(("first", "end"), [(2, None), (-1, None), (0, 0), (0, 3), (1, 1), (1, 0)])
def test_a_window_that_is_none_of_the_log_is_refused(tmp_path: Path, ledger: Ledger, first: int, end: int | None):
    with pytest.raises(InvalidInput) as refused:
        export(open_log(ledger, tmp_path / "home"), tmp_path / "bundle", first=first, end=end)
    assert refused.value.data["path"] in ("first", "end")
    assert not (tmp_path / "bundle").exists()


# ---------------------------------------------------------------- erasable texts


def test_erasable_texts_go_along_only_if_asked_for_and_as_far_as_they_are_there(tmp_path: Path, ledger: Ledger):
    for name in ("Alice Müller", "Bob\nBaker", "Carol"):
        ledger.transfer(ALICE, BOB, USD, 1, key=name[:3], metadata={"payer": Erasable(name)})
    ledger.erase("main/4")
    log = open_log(ledger, tmp_path / "home")
    export(log, tmp_path / "plain")
    export(log, tmp_path / "open", openings=True)
    export(log, tmp_path / "late", first=3, openings=True)
    for name in ("plain", "open", "late"):
        passed(tmp_path / name)
    plain = files_of(tmp_path / "plain")
    assert not any(secret in data for data in plain.values() for secret in (b"M\xc3\xbcller", b"Baker", b"Carol"))
    rows = [json.loads(line) for line in (tmp_path / "open/openings.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == ["Alice Müller", "Bob\nBaker"]
    entries = (tmp_path / "open/tile/entries/000.p/5").read_bytes()
    for row in rows:
        assert commitment_of(row["text"], bytes.fromhex(row["salt"])) == row["commitment"]
        assert row["commitment"].encode() in entries
    assert [json.loads(line)["text"] for line in (tmp_path / "late/openings.jsonl").read_text().splitlines()] == [
        "Bob\nBaker"
    ]
    assert (tmp_path / "open/openings.jsonl").stat().st_mode & 0o077 == 0
    changed = {path for path in plain if plain[path] != files_of(tmp_path / "open")[path]}
    assert changed == {"manifest.json"}


# ---------------------------------------------------------------- what was tampered with is found


@pytest.mark.parametrize(
    "name",
    ["entries that do not add up", "a version gap", "an overdrawn balance", "a key used again",
     "a capture beyond its hold", "more undone than was done"],
)  # fmt: skip
def test_a_forgery_that_the_ledger_itself_exports_is_found_where_it_is(
    tmp_path: Path, journey: list[bytes], monkeypatch: pytest.MonkeyPatch, name: str
):
    """The worst case: whoever keeps ledger and key forges an event, chains all anew, and lets the log sign it."""
    forgery = next(forgery for forgery in FORGERIES if forgery.name == name)
    seq, body = forgery.body(journey)
    bodies = rechained([*events_of(journey[:seq]), *events_of([body]), *events_of(journey[seq + 1 :])])
    monkeypatch.setattr("tallystick.evidence.bundle.apply", lambda *_: None)
    with ledger_of(journey) as honest:
        monkeypatch.setattr(honest._store, "events", lambda _, first, limit: bodies[first : first + limit])
        monkeypatch.setattr(honest._store, "leaves", lambda _, first, prev, limit: leaves(bodies[first:][:limit]))
        export(open_log(honest, tmp_path / "home"), tmp_path / "bundle")
    report = judged(tmp_path / "bundle")
    assert {name: word for name, word in report["words"].items() if word == "failed"} == {"accounting": "failed"}
    assert failures(report, "accounting")[0]["seq"] == seq


def leaves(bodies: list[bytes]) -> list[bytes]:
    from tallystick.journal.merkle import hash_leaf  # noqa: PLC0415 - beside its only use

    return [hash_leaf(body) for body in bodies]


def test_a_log_that_was_rewritten_is_found_by_a_checkpoint_or_a_receipt_from_before(tmp_path: Path, trade: list[bytes]):
    def change(events: list[dict[str, object]]) -> None:
        events[350]["idem"] = "order-another"

    with ledger_of(forged(trade, change)) as rewritten:
        export(open_log(rewritten, tmp_path / "home"), tmp_path / "bundle")
    passed(tmp_path / "bundle")
    assert judged(tmp_path / "bundle", checkpoints=[checkpoint_of(trade[:500])])["words"]["outside"] == "failed"
    assert judged(tmp_path / "bundle", receipts=[receipt_of(trade[:600], 350)])["words"]["outside"] == "failed"
    passed(tmp_path / "bundle", "outside", checkpoints=[checkpoint_of(trade[:350])])


def test_one_changed_bit_in_any_file_is_found(tmp_path: Path, journey: list[bytes]):
    with ledger_of(journey) as told_again:
        export(open_log(told_again, tmp_path / "home"), tmp_path / "bundle", first=20, policy=POLICY)
    for path, data in files_of(tmp_path / "bundle").items():
        place = tmp_path / "bundle" / path
        middle = len(data) // 2
        place.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        assert not judged(tmp_path / "bundle")["ok"], path
        place.unlink()
        report = judged(tmp_path / "bundle")
        if path == "manifest.json":  # what is left is a published log, and is judged as one
            assert any("not as an export bundle" in note for note in report["notes"])
        else:
            assert not report["ok"], path
        place.write_bytes(data)
    passed(tmp_path / "bundle")


def test_an_opening_that_was_changed_does_not_fit_the_events_behind_it(tmp_path: Path, trade: list[bytes]):
    with ledger_of(trade) as told_again:
        export(open_log(told_again, tmp_path / "home"), tmp_path / "bundle", first=300)
    event = events_of(trade[300:301])[0]
    before = event["entries"][0]["before"]

    def change(data: bytes) -> bytes:
        opening = json.loads(data)
        row = next(row for row in opening["balances"] if row["account"] == event["entries"][0]["account"])
        row["amount"] = str(int(row["amount"]) + 1)
        return json.dumps(opening, sort_keys=True, separators=(",", ":")).encode()

    assert int(before)
    change_file(tmp_path / "bundle", "opening.json", change)
    report = judged(tmp_path / "bundle")
    assert {name for name, word in report["words"].items() if word == "failed"} == {"accounting"}


def test_what_is_not_what_was_signed_is_not_exported(
    tmp_path: Path, trade: list[bytes], monkeypatch: pytest.MonkeyPatch
):
    with ledger_of(trade) as told_again:
        log = open_log(told_again, tmp_path / "home")
        log.checkpoint()
        store = told_again._store
        other = [*trade[:400], trade[400].replace(b"USD/2", b"USD/3"), *trade[401:]]
        with monkeypatch.context() as patch:
            patch.setattr(store, "events", lambda _, first, limit: other[first : first + limit])
            with pytest.raises(LedgerCorrupt, match="event main/400"):
                export(log, tmp_path / "bundle")
        real = store.tiles

        def changed(ledger: str, places: list[tuple[int, int]]) -> list[bytes]:
            return [row[:-1] + bytes([row[-1] ^ 1]) for row in real(ledger, places)]

        monkeypatch.setattr(store, "tiles", changed)
        with pytest.raises((LedgerCorrupt, LogForked)):
            export(log, tmp_path / "bundle", sign=False, end=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]
