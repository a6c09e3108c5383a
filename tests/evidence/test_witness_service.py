"""What a witness cosigns and what it refuses (C2SP tlog-witness), without a network."""

from __future__ import annotations

import base64
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.errors import InvalidInput, KeyFileUnsafe, NotALedger, NoteInvalid, Unavailable
from tallystick.evidence.http_server import MAX_REQUEST_BYTES, Answer
from tallystick.evidence.witness import encode_request
from tallystick.evidence.witness_records import Record, WitnessRecords, hash_origin
from tallystick.evidence.witness_server import WitnessService, load_key, parse_request
from tallystick.journal.checkpoints import Checkpoint, cosignature_time, open_checkpoint, sign_checkpoint
from tallystick.journal.merkle import EMPTY_ROOT
from tallystick.journal.notes import COSIGNATURE, ED25519, Note, NoteSignature, SecretKey, open_note, signers_of
from tests.evidence.witness_support import LOG_KEY, ORIGIN, POST_QUANTUM_KEY, WITNESS_KEY, Log, key, logs_by_origin

NOW = 1_795_000_000


class Clock:
    def __init__(self) -> None:
        self.seconds = float(NOW)

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def records(tmp_path: Path) -> Iterator[WitnessRecords]:
    found = WitnessRecords(tmp_path / "witness.db")
    yield found
    found.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service(records: WitnessRecords, clock: Clock) -> WitnessService:
    return service_of(records, clock)


def service_of(records: WitnessRecords, clock: Callable[[], float] = Clock()) -> WitnessService:  # noqa: B008
    return WitnessService(records, [WITNESS_KEY], logs_by_origin([LOG_KEY.verifier]), clock)


def cosignature(answer: Answer, note: bytes) -> NoteSignature:
    """The one signature in a 200, verified as a stranger would."""
    assert (answer.status, answer.content_type) == (200, "text/plain; charset=utf-8")
    text = Note.parse(note).text
    whole, signers = open_note(text.encode() + b"\n" + answer.body, [WITNESS_KEY.verifier])
    assert signers == (WITNESS_KEY.verifier,)
    assert len(whole.signatures) == 1
    return whole.signatures[0]


# ---------------------------------------------------------------- what is cosigned


def test_the_first_checkpoint_is_cosigned_without_a_proof(service: WitnessService) -> None:
    note = Log().note(7)
    line = cosignature(service.add_checkpoint(encode_request(0, [], note)), note)
    assert cosignature_time(line) == NOW


def test_growth_by_a_proof_is_cosigned(service: WitnessService) -> None:
    log = Log()
    sizes = [0, 1, 2, 3, 7, 8, 8, 9, 40, 41]
    for old, new in zip([0, *sizes], sizes, strict=False):
        cosignature(service.add_checkpoint(log.request(old, new)), log.note(new))


def test_an_empty_log_is_cosigned(service: WitnessService) -> None:
    cosignature(service.add_checkpoint(Log().request(0, 0)), Log().note(0))
    cosignature(service.add_checkpoint(Log().request(0, 0)), Log().note(0))
    cosignature(service.add_checkpoint(Log().request(0, 3)), Log().note(3))


def test_signatures_of_strangers_are_ignored_and_not_kept(service: WitnessService) -> None:
    stranger = key("stranger.example/x")
    note = Log().note(3, stranger)
    cosignature(service.add_checkpoint(encode_request(0, [], note)), note)
    kept = service.checkpoint(hash_origin(ORIGIN))
    assert kept.status == 200
    checkpoint, whole = open_checkpoint(kept.body, [LOG_KEY.verifier])
    assert checkpoint == Checkpoint(ORIGIN, 3, Log().root(3))
    assert signers_of(whole, [LOG_KEY.verifier, WITNESS_KEY.verifier]) == (LOG_KEY.verifier, WITNESS_KEY.verifier)
    assert len(whole.signatures) == 2


def test_extension_lines_are_part_of_what_is_cosigned(service: WitnessService) -> None:
    note = sign_checkpoint(Checkpoint(ORIGIN, 3, Log().root(3), ("more",)), LOG_KEY)
    cosignature(service.add_checkpoint(encode_request(0, [], note)), note)


def test_every_key_of_a_witness_cosigns(records: WitnessRecords) -> None:
    keys = [POST_QUANTUM_KEY, WITNESS_KEY]
    service = WitnessService(records, keys, logs_by_origin([LOG_KEY.verifier]), Clock())
    note = Log().note(3)
    answer = service.add_checkpoint(encode_request(0, [], note))
    verifiers = [secret.verifier for secret in keys]
    _, signers = open_note(Note.parse(note).text.encode() + b"\n" + answer.body, verifiers)
    assert signers == tuple(verifiers)


def test_times_never_run_backwards(service: WitnessService, clock: Clock) -> None:
    log = Log()
    first = cosignature(service.add_checkpoint(log.request(0, 3)), log.note(3))
    clock.seconds -= 3_600
    second = cosignature(service.add_checkpoint(log.request(3, 4)), log.note(4))
    clock.seconds += 3_605
    third = cosignature(service.add_checkpoint(log.request(4, 5)), log.note(5))
    assert [cosignature_time(line) - NOW for line in (first, second, third)] == [0, 0, 5]


def test_logs_are_witnessed_apart(records: WitnessRecords) -> None:
    other = Log("other.example/log", signer=key("other.example/log"))
    service = WitnessService(records, [WITNESS_KEY], logs_by_origin([LOG_KEY.verifier, other.signer.verifier]))
    assert service.add_checkpoint(Log().request(0, 9)).status == 200
    assert service.add_checkpoint(other.request(0, 2)).status == 200
    assert records.sizes() == {ORIGIN: 9, "other.example/log": 2}
    assert service.checkpoint(hash_origin("other.example/log")).body.startswith(b"other.example/log\n2\n")


def test_a_log_may_have_two_keys_during_a_rotation(records: WitnessRecords) -> None:
    new = key(ORIGIN, salt="new")
    service = WitnessService(records, [WITNESS_KEY], logs_by_origin([LOG_KEY.verifier, new.verifier]))
    assert service.add_checkpoint(Log().request(0, 3)).status == 200
    assert service.add_checkpoint(Log(signer=new).request(3, 5)).status == 200


# ---------------------------------------------------------------- what is refused


def test_an_unknown_log_is_not_found(service: WitnessService) -> None:
    stranger = Log("stranger.example/log", signer=key("stranger.example/log"))
    assert service.add_checkpoint(stranger.request(0, 3)).status == 404
    # Its signature is not looked at before: there is no key to look with.
    assert service.add_checkpoint(Log("stranger.example/log").request(0, 3)).status == 404


def test_a_signature_that_is_missing_or_fails_is_forbidden(service: WitnessService) -> None:
    stranger = key(ORIGIN, salt="another key of that name")
    assert service.add_checkpoint(Log(signer=stranger).request(0, 3)).status == 403
    note = Note.parse(Log().note(3))
    line = note.signatures[0]
    wrong = NoteSignature(line.name, line.key_id, line.signature[:-1] + bytes([line.signature[-1] ^ 1]))
    for signatures in ((wrong,), (line, wrong)):
        spoiled = Note(note.text, signatures).encode()
        assert service.add_checkpoint(encode_request(0, [], spoiled)).status == 403


def test_a_key_of_one_log_does_not_speak_for_another(records: WitnessRecords) -> None:
    other = key("other.example/log")
    service = WitnessService(records, [WITNESS_KEY], logs_by_origin([LOG_KEY.verifier, other.verifier]))
    assert service.add_checkpoint(Log(signer=other).request(0, 3)).status == 403


def test_a_signature_is_judged_before_sizes_are(service: WitnessService) -> None:
    stranger = Log(signer=key(ORIGIN, salt="stranger"))
    assert service.add_checkpoint(encode_request(9, [], stranger.note(3))).status == 403


def test_another_old_size_is_a_conflict_and_says_the_size(service: WitnessService) -> None:
    log = Log()
    assert service.add_checkpoint(log.request(4, 9)) == Answer(409, b"0\n", "text/x.tlog.size")
    assert service.add_checkpoint(log.request(0, 9)).status == 200
    for old, new in ((0, 9), (0, 12), (8, 12), (10, 12), (3, 5)):
        assert service.add_checkpoint(log.request(old, new)) == Answer(409, b"9\n", "text/x.tlog.size")


def test_an_old_size_beyond_the_new_one_is_a_bad_request(service: WitnessService) -> None:
    log = Log()
    assert service.add_checkpoint(log.request(0, 9)).status == 200
    assert service.add_checkpoint(encode_request(9, [], log.note(5))).status == 400


def test_a_rollback_is_refused(service: WitnessService, records: WitnessRecords) -> None:
    log = Log()
    assert service.add_checkpoint(log.request(0, 9)).status == 200
    for old in range(12):
        proof = log.proof(old, 5) if old <= 5 else []
        assert service.add_checkpoint(encode_request(old, proof, log.note(5))).status in (400, 409)
    assert records.sizes() == {ORIGIN: 9}


def test_a_fork_is_refused(service: WitnessService, records: WitnessRecords) -> None:
    assert service.add_checkpoint(Log().request(0, 9)).status == 200
    fork = Log(fork_at=4)
    for proof in (fork.proof(9, 20), Log().proof(9, 20), [], fork.proof(9, 20)[1:]):
        assert service.add_checkpoint(encode_request(9, proof, fork.note(20))).status == 422
    assert service.add_checkpoint(Log().request(9, 20)).status == 200


def test_another_root_for_the_same_size_is_refused_and_kept_as_proof(
    service: WitnessService, records: WitnessRecords
) -> None:
    assert service.add_checkpoint(Log().request(0, 9)).status == 200
    assert records.forks(ORIGIN) == []
    for _ in range(2):
        assert service.add_checkpoint(Log(fork_at=4).request(9, 9)).status == 422
    [(cosigned, forked)] = records.forks(ORIGIN)
    found = [open_checkpoint(note, [LOG_KEY.verifier])[0] for note in (cosigned, forked)]
    assert [checkpoint.root for checkpoint in found] == [Log().root(9), Log(fork_at=4).root(9)]
    assert service.checkpoint(hash_origin(ORIGIN)).body == cosigned


def test_a_proof_where_none_is_needed_is_refused(service: WitnessService) -> None:
    log = Log()
    assert service.add_checkpoint(encode_request(0, [EMPTY_ROOT], log.note(9))).status == 422
    assert service.add_checkpoint(encode_request(0, [], log.note(9))).status == 200
    assert service.add_checkpoint(encode_request(9, [EMPTY_ROOT], log.note(9))).status == 422


def test_an_empty_tree_has_one_root(service: WitnessService) -> None:
    note = sign_checkpoint(Checkpoint(ORIGIN, 0, bytes(32)), LOG_KEY)
    assert service.add_checkpoint(encode_request(0, [], note)).status == 422


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"old 0\n",
        b"old 0\n\n",
        b"old  0\n\n%b",
        b"old 00\n\n%b",
        b"old +0\n\n%b",
        b"old -1\n\n%b",
        b"old 0 \n\n%b",
        b"old 0\r\n\n%b",
        b"OLD 0\n\n%b",
        b"old 0\n%b",
        b"old 9223372036854775808\n\n%b",
        b"old 0\n" + b"A" * 44 + b"\n\n%b",
        b"old 0\n" + base64.b64encode(bytes(31)) + b"\n\n%b",
        b"old 0\n" + base64.b64encode(bytes(33)) + b"\n\n%b",
        b"old 0\n" + base64.b64encode(bytes(32)) + b"\r\n\n%b",
        b"old 0\n" + base64.b64encode(bytes(32)).rstrip(b"=") + b"\n\n%b",
        b"old 0\n" + base64.b64encode(bytes(32))[:-2] + b"B=\n\n%b",
        b"old 0\n" + (base64.b64encode(bytes(32)) + b"\n") * 64 + b"\n%b",
        b"old 0\n\n\n%b",
    ],
)
def test_a_malformed_request_is_a_bad_request(service: WitnessService, body: bytes) -> None:
    whole = body.replace(b"%b", Log().note(3))
    assert service.add_checkpoint(whole).status == 400


def test_sixty_three_hashes_are_read(service: WitnessService) -> None:
    hashes = [bytes([n]) * 32 for n in range(63)]
    assert parse_request(encode_request(1, hashes, b"rest")).proof == tuple(hashes)
    assert service.add_checkpoint(encode_request(0, hashes, Log().note(3))).status == 422
    with pytest.raises(InvalidInput):
        encode_request(1, [*hashes, bytes(32)], b"rest")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\n3\n", b"\n03\n"),
        (b"\n3\n", b"\n-3\n"),
        (b"\n3\n", b"\n9223372036854775808\n"),
        (b"\n3\n", b"\n\n"),
        (b"example", b"\xffxample"),
        (b"example.com/log\n3", b"example.com/log\x00\n3"),
        (b"=\n\n", b"\n\n"),
    ],
)
def test_a_malformed_checkpoint_is_a_bad_request(service: WitnessService, old: bytes, new: bytes) -> None:
    note = Log().note(3)
    assert old in note
    assert service.add_checkpoint(b"old 0\n\n" + note.replace(old, new, 1)).status == 400


def test_a_note_without_a_readable_signature_is_forbidden(service: WitnessService) -> None:
    note = Log().note(3)
    unsigned = Note.parse(note).text.encode() + b"\n"
    # In the last one the base64 has other unused bits, which decodes to the same bytes in lenient readers.
    spare = note[:-3] + bytes([note[-3] + 1]) + note[-2:]
    for malformed in (unsigned, unsigned + b"nobody\n", note[:-1], note.replace("—".encode(), b"-"), spare):
        assert service.add_checkpoint(b"old 0\n\n" + malformed).status == 403
        other = malformed.replace(b"example.com/log", b"unknown.example/log")
        assert service.add_checkpoint(b"old 0\n\n" + other).status == 404


def test_every_changed_bit_of_a_request_is_refused(service: WitnessService, records: WitnessRecords) -> None:
    log = Log()
    assert service.add_checkpoint(log.request(0, 5)).status == 200
    request = log.request(5, 11)
    for place in range(len(request)):
        for bit in range(8):
            changed = bytearray(request)
            changed[place] ^= 1 << bit
            assert service.add_checkpoint(bytes(changed)).status != 200, (place, bit)
    assert records.sizes() == {ORIGIN: 5}
    assert service.add_checkpoint(request).status == 200


def test_sixteen_long_signatures_fit(service: WitnessService) -> None:
    note = Log().note(3, *[key(f"{'w' * 200}.example/{n}", POST_QUANTUM_KEY.type) for n in range(15)])
    assert len(encode_request(0, [bytes(32)] * 63, note)) < MAX_REQUEST_BYTES
    assert service.add_checkpoint(encode_request(0, [], note)).status == 200


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.booleans(), st.booleans()), max_size=12))
@settings(max_examples=60, deadline=None)
def test_a_witness_does_what_its_model_does(
    tmp_path_factory: pytest.TempPathFactory, requests: list[tuple[int, int, bool, bool]]
) -> None:
    """The model: a size and which of two histories (they part at leaf 6) was seen beyond the point of parting."""
    records = WitnessRecords(tmp_path_factory.mktemp("model") / "witness.db")
    service = service_of(records)
    size, forked = 0, False
    for old, new, on_fork, spoil in requests:
        log = Log(fork_at=6 if on_fork else None)
        proof = log.proof(old, new) if old <= new else []
        if spoil and proof:
            proof[0] = bytes(32)
        status = service.add_checkpoint(encode_request(old, proof, log.note(new))).status
        same_history = size <= 6 or on_fork == forked
        if old > new:
            expected = 400
        elif old != size:
            expected = 409
        elif not same_history or (spoil and proof):
            # A spoiled proof, or one from a history that was not seen.
            expected = 422 if old else 200
        else:
            expected = 200
        assert status == expected
        if status == 200:
            size, forked = new, on_fork
    assert records.sizes() == ({ORIGIN: size} if service.checkpoint(hash_origin(ORIGIN)).status == 200 else {})
    records.close()


# ---------------------------------------------------------------- what is remembered


def test_of_requests_at_once_from_one_size_one_is_cosigned(tmp_path: Path) -> None:
    """Threads of one witness and of another on the same file: whoever comes second is told the new size."""
    shared = [WitnessRecords(tmp_path / "witness.db") for _ in range(2)]
    services = [service_of(records) for records in shared]
    log = Log()
    assert services[0].add_checkpoint(log.request(0, 4)).status == 200
    requests = {new: log.request(4, new) for new in range(5, 21)}
    answers: dict[int, Answer] = {}
    gate = threading.Barrier(len(requests))

    def send(new: int) -> None:
        gate.wait()
        answers[new] = services[new % 2].add_checkpoint(requests[new])

    threads = [threading.Thread(target=send, args=(new,)) for new in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == len(requests)
    [winner] = [new for new, answer in answers.items() if answer.status == 200]
    assert all(answer.body == b"%d\n" % winner for new, answer in answers.items() if new != winner)
    assert [records.sizes() for records in shared] == [{ORIGIN: winner}] * 2
    for records in shared:
        records.close()


def test_nothing_is_cosigned_that_could_not_be_kept(service: WitnessService, tmp_path: Path) -> None:
    log = Log()
    assert service.add_checkpoint(log.request(0, 4)).status == 200
    with sqlite3.connect(tmp_path / "witness.db") as other:
        other.execute("CREATE TRIGGER full BEFORE UPDATE ON cosigned BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    with pytest.raises(Unavailable, match="disk full"):
        service.add_checkpoint(log.request(4, 9))
    with sqlite3.connect(tmp_path / "witness.db") as other:
        other.execute("DROP TRIGGER full")
    other.close()
    assert service.add_checkpoint(log.request(4, 9)).status == 200


def test_a_commit_is_synced_before_the_answer(records: WitnessRecords) -> None:
    # A loss of power cannot be had here; these settings are what SQLite promises durability for.
    with records._file.reading() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_what_is_remembered_outlives_the_process(tmp_path: Path) -> None:
    first = WitnessRecords(tmp_path / "witness.db")
    assert service_of(first).add_checkpoint(Log().request(0, 9)).status == 200
    first.close()
    second = WitnessRecords(tmp_path / "witness.db")
    assert service_of(second).add_checkpoint(Log().request(0, 5)) == Answer(409, b"9\n", "text/x.tlog.size")
    second.close()


def test_a_record_is_not_replaced_by_a_smaller_one_or_an_earlier_time(records: WitnessRecords) -> None:
    """Whatever the code around it does."""
    records.advance(ORIGIN, lambda _: Record(9, bytes(32), NOW, b"note"))
    for record in (Record(8, bytes(32), NOW, b"note"), Record(9, bytes(32), NOW - 1, b"note")):
        with pytest.raises(Unavailable):
            records.advance(ORIGIN, lambda _, record=record: record)
    assert records.sizes() == {ORIGIN: 9}


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE event (seq INTEGER)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(NotALedger):
        WitnessRecords(path)
    assert path.read_bytes() == before
    text = tmp_path / "notes.txt"
    text.write_bytes(b"not a database" * 100)
    with pytest.raises(NotALedger):
        WitnessRecords(text)
    with pytest.raises(Unavailable):
        WitnessRecords(tmp_path / "missing" / "witness.db")


# ---------------------------------------------------------------- its key


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "witness.key"
    made = load_key(path, "witness.example/w1")
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key(path) == load_key(path, "witness.example/w1") == made
    assert made.verifier.type == 0x04


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "witness.key"
    load_key(path, "witness.example/w1")
    path.chmod(0o640)
    with pytest.raises(KeyFileUnsafe):
        load_key(path)


def test_a_new_key_needs_a_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        load_key(tmp_path / "witness.key")
    with pytest.raises(NoteInvalid):
        load_key(tmp_path / "witness.key", "two words")
    assert not (tmp_path / "witness.key").exists()


def test_another_name_or_half_a_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "witness.key"
    load_key(path, "witness.example/w1")
    with pytest.raises(KeyFileUnsafe):
        load_key(path, "witness.example/w2")
    path.write_text("PRIVATE+KEY+half")
    with pytest.raises(KeyFileUnsafe):
        load_key(path)


def test_a_cosigning_key_is_not_the_logs_kind() -> None:
    assert WITNESS_KEY.verifier.id != key(WITNESS_KEY.name, ED25519).verifier.id


# ---------------------------------------------------------------- a key of its own


@pytest.mark.parametrize(
    ("mine", "problem"),
    [
        (SecretKey.from_seed(ORIGIN, bytes(range(32)), COSIGNATURE), "is the name of a log's key"),
        (SecretKey.from_seed("witness.example/w1", LOG_KEY.seed, COSIGNATURE), f"the key of the log {ORIGIN}"),
    ],
)
def test_a_witness_does_not_share_name_or_secret_with_a_log(
    records: WitnessRecords, tmp_path: Path, mine: SecretKey, problem: str
) -> None:
    logs = logs_by_origin([key("other.example/log").verifier, LOG_KEY.verifier])
    with pytest.raises(InvalidInput, match=problem):
        WitnessService(records, [WITNESS_KEY, mine], logs)
    path = tmp_path / "witness.key"
    path.write_text(SecretKey.from_seed(mine.name, mine.seed, ED25519).encode() + "\n")
    path.chmod(0o600)
    with pytest.raises(InvalidInput, match=problem):
        load_key(path, logs=logs)
    assert load_key(path, logs=logs_by_origin([key("other.example/log").verifier])) == mine


def test_no_key_is_made_under_the_name_of_a_log(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="name of a log's key"):
        load_key(tmp_path / "witness.key", ORIGIN, logs_by_origin([LOG_KEY.verifier]))
    assert list(tmp_path.iterdir()) == []
