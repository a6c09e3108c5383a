"""Keys, witnesses, older checkpoints, receipts and attestations: what is brought from outside, and how it counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tallystick
from tallystick import verify
from tallystick.errors import NoteInvalid
from tallystick.journal.checkpoints import Checkpoint, sign_checkpoint
from tallystick.journal.dsse import sign_envelope
from tallystick.journal.merkle import EMPTY_ROOT
from tallystick.journal.notes import COSIGNATURE, ED25519, ML_DSA_44, SecretKey, VerifierKey
from tallystick.journal.policies import Policy
from tests.verify.bundles import (
    KEY,
    ORIGIN,
    OTHER_KEY,
    VKEY,
    WITNESS,
    checkpoint_of,
    cosigned,
    encoded,
    failures,
    judged,
    opening_of,
    receipt_of,
)
from tests.verify.conftest import Write
from tests.verify.journey import Told, read_bodies

SECOND = SecretKey.from_seed("witness.example/w2", b"\4" * 32, COSIGNATURE)


def policy(quorum: str, *witnesses: SecretKey) -> bytes:
    lines = [f"witness w{number} {witness.verifier}" for number, witness in enumerate(witnesses)]
    names = " ".join(f"w{number}" for number in range(len(witnesses)))
    return "\n".join([f"log {VKEY}", *lines, f"group g {quorum} {names}", "quorum g", ""]).encode()


def test_without_a_key_the_report_says_that_the_key_came_from_the_bundle(write: Write, trade: list[bytes]):
    folder = write(trade, key=OTHER_KEY)
    report = judged(folder, keys=[])
    assert report["words"]["tree"] == "passed"
    assert "a key that came from the bundle itself" in report["verdicts"]["tree"]["detail"]
    assert judged(folder, keys=[VKEY])["words"]["tree"] == "failed"


def test_a_key_of_another_name_cannot_speak_for_this_log(write: Write, trade: list[bytes]):
    stranger = SecretKey.from_seed("ledger.example/other", b"\1" * 32, ED25519)
    folder = write(trade, checkpoint=checkpoint_of(trade, stranger))
    assert judged(folder, keys=[str(stranger.verifier)])["words"]["tree"] == "failed"


def test_a_quorum_of_witnesses_passes_outside(write: Write, trade: list[bytes]):
    folder = write(trade, checkpoint=cosigned(cosigned(checkpoint_of(trade)), SECOND))
    report = judged(folder, keys=[], policy=policy("all", WITNESS, SECOND))
    assert report["words"]["outside"] == "passed"
    assert report["conclusion"] == "internally consistent, and consistent with what was shown from outside"


def test_a_quorum_that_is_not_met_fails_outside(write: Write, trade: list[bytes]):
    folder = write(trade, checkpoint=cosigned(checkpoint_of(trade)))
    assert judged(folder, policy=policy("any", WITNESS, SECOND))["words"]["outside"] == "passed"
    assert judged(folder, policy=policy("all", WITNESS, SECOND))["words"]["outside"] == "failed"
    assert judged(folder, policy=policy("1", SECOND))["words"]["outside"] == "failed"


def test_a_cosignature_that_does_not_verify_spoils_the_checkpoint(write: Write, trade: list[bytes]):
    impostor = SecretKey.from_seed(WITNESS.name, b"\3" * 32, COSIGNATURE)
    wrong = cosigned(checkpoint_of(trade[:-1]), impostor).splitlines()[-1]
    folder = write(trade, checkpoint=checkpoint_of(trade) + wrong + b"\n")
    assert judged(folder, policy=policy("all", WITNESS))["words"]["outside"] == "failed"


def test_a_policy_that_asks_for_no_witness_shows_nothing(write: Write, trade: list[bytes]):
    report = judged(write(trade), policy=f"log {VKEY}\nquorum none\n".encode())
    assert report["words"]["outside"] == "not checked"
    assert report["conclusion"] == "internally consistent, not witnessed"


def test_the_policy_in_the_bundle_itself_does_not_count(write: Write, trade: list[bytes]):
    folder = write(trade, checkpoint=cosigned(checkpoint_of(trade)), files={"policy": policy("any", WITNESS)})
    assert judged(folder)["words"]["outside"] == "not checked"


def test_a_checkpoint_of_nothing_shows_nothing(write: Write, trade: list[bytes]):
    empty = sign_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), KEY)
    assert judged(write(trade), checkpoints=[empty])["words"]["outside"] == "not checked"
    wrong = sign_checkpoint(Checkpoint(ORIGIN, 0, bytes(32)), KEY)
    assert judged(write(trade), checkpoints=[wrong])["words"]["outside"] == "failed"


@pytest.mark.parametrize("size", [1, 255, 256, 257, 512, 699, 700])
def test_a_log_extends_its_checkpoints_of_every_size(write: Write, trade: list[bytes], size: int):
    assert judged(write(trade), checkpoints=[checkpoint_of(trade[:size])])["words"]["outside"] == "passed"


@pytest.mark.parametrize("seq", [0, 255, 256, 511, 512, 680])
def test_a_receipt_is_found_in_the_log(write: Write, trade: list[bytes], seq: int):
    report = judged(write(trade), receipts=[receipt_of(trade[:681], seq)])
    assert report["words"]["outside"] == "passed"


def test_a_receipt_for_another_event_is_refused(write: Write, trade: list[bytes]):
    body = receipt_of(trade, 5).replace(b"index 5\n", b"index 6\n")
    report = judged(write(trade), receipts=[body])
    assert failures(report, "outside")[0]["field"] == "proof"


@pytest.mark.parametrize(
    "garbage", [b"", b"x", b"\xff\n\n", b"a\n1\nb\n\n\xe2\x80\x94 a b\n", b"c2sp.org/tlog-proof@v1\n\n"]
)
def test_what_is_no_checkpoint_or_receipt_fails_and_does_not_crash(write: Write, journey: list[bytes], garbage: bytes):
    folder = write(journey)
    assert judged(folder, checkpoints=[garbage])["words"]["outside"] == "failed"
    assert judged(folder, receipts=[garbage])["words"]["outside"] == "failed"


# ---------------------------------------------------------------- whose key it is

STRANGER = SecretKey.from_seed(ORIGIN, b"\7" * 32, ED25519)


def key_file(*keys: SecretKey) -> dict[str, bytes]:
    return {"keys/more.vkey": "".join(f"{key.verifier}\n" for key in keys).encode()}


def both(bodies: list[bytes], *keys: SecretKey) -> bytes:
    """The checkpoint of these events, signed by each of the keys."""
    first, *others = (checkpoint_of(bodies, key) for key in keys)
    return first + b"".join(other.rpartition(b"\n\n")[2] for other in others)


def test_a_tail_that_a_stranger_signed_is_not_vouched_for_by_an_older_genuine_checkpoint(
    write: Write, trade: list[bytes]
):
    older, receipt = checkpoint_of(trade[:500]), receipt_of(trade[:500], 5)
    folder = write(trade, key=STRANGER, files=key_file(KEY))
    report = judged(folder, keys=[], checkpoints=[older], receipts=[receipt])
    assert report["words"]["outside"] == "not checked"
    detail = "the newest checkpoint is not signed by the key of what you brought"
    assert report["verdicts"]["outside"]["detail"] == detail
    assert report["conclusion"] == "internally consistent, not witnessed"
    assert judged(write(trade), keys=[], checkpoints=[older])["words"]["outside"] == "passed"
    assert judged(folder, checkpoints=[older])["words"]["tree"] == "failed"


def test_a_checkpoint_by_a_key_that_leads_to_the_newest_by_nothing_but_a_key_file_does_not_count(
    write: Write, trade: list[bytes]
):
    older = checkpoint_of(trade[:300], OTHER_KEY)
    assert judged(write(trade), checkpoints=[older])["words"]["outside"] == "failed"
    kept = write(trade, files=key_file(OTHER_KEY))
    assert judged(kept, checkpoints=[older])["words"]["outside"] == "not checked"


@pytest.fixture(scope="module")
def rotated() -> tuple[list[bytes], int]:
    """A journal in which the log goes over from KEY to OTHER_KEY, and how many events the checkpoint of both covers."""
    with tallystick.open("memory://") as database:
        ledger = database.ledger("main")
        for number in range(4):
            ledger.post(tallystick.commands.RotateKey(key=f"k{number}", source="log", public_key="another"))
        ledger.post(tallystick.commands.RotateKey(key="rotate", source="log", public_key=str(OTHER_KEY.verifier)))
        covered = len(read_bodies(database, "main"))
        for number in range(4):
            ledger.post(tallystick.commands.RotateKey(key=f"l{number}", source="log", public_key="another"))
        return read_bodies(database, "main"), covered


def write_rotated(write: Write, rotated: tuple[list[bytes], int], *, size: int = 0, **more: Any) -> Path:
    """The bundle after the rotation; ``size``: what the checkpoint of both keys covers, if not what it should."""
    bodies, covered = rotated
    size = size or covered
    files = {"checkpoints/3": checkpoint_of(bodies[:3]), f"checkpoints/{size}": both(bodies[:size], OTHER_KEY, KEY)}
    return write(bodies, key=OTHER_KEY, files={**files, **key_file(KEY, OTHER_KEY), **more.pop("files", {})}, **more)


@pytest.mark.parametrize("key", [KEY, OTHER_KEY])
def test_after_a_rotation_the_old_key_and_the_new_one_both_do(
    write: Write, rotated: tuple[list[bytes], int], key: SecretKey
):
    folder = write_rotated(write, rotated)
    report = judged(folder, keys=[str(key.verifier)])
    assert report["words"]["tree"] == "passed", report
    assert report["ok"]
    assert any("gone over to another key" in note for note in report["notes"]) == (key is KEY)
    for keys in ([], [str(key.verifier)]):
        found = judged(folder, keys=keys, checkpoints=[checkpoint_of(rotated[0][:3])])
        assert found["words"]["outside"] == "passed", found


def test_in_a_published_log_the_checkpoint_of_both_keys_may_be_brought(write: Write, rotated: tuple[list[bytes], int]):
    bodies, covered = rotated
    folder = write(bodies, key=OTHER_KEY)
    assert judged(folder)["words"]["tree"] == "failed"
    report = judged(folder, checkpoints=[both(bodies[:covered], KEY, OTHER_KEY)])
    assert (report["words"]["tree"], report["words"]["outside"]) == ("passed", "passed")


@pytest.mark.parametrize("size", [3, 5])
def test_a_checkpoint_of_two_keys_that_does_not_cover_the_rotation_leads_nowhere(
    write: Write, rotated: tuple[list[bytes], int], size: int
):
    folder = write_rotated(write, rotated, size=size)
    assert judged(folder)["words"]["tree"] == "failed"
    report = judged(folder, keys=[], checkpoints=[checkpoint_of(rotated[0][:4])])
    assert report["words"]["outside"] == "not checked"


def test_a_stranger_who_signs_beside_the_log_is_not_led_to(write: Write, rotated: tuple[list[bytes], int]):
    bodies, covered = rotated
    files = {f"checkpoints/{covered}": both(bodies[:covered], KEY, STRANGER), **key_file(KEY)}
    folder = write(bodies, key=STRANGER, files=files)
    assert judged(folder)["words"]["tree"] == "failed"
    report = judged(folder, keys=[], checkpoints=[checkpoint_of(bodies[:covered])])
    assert report["words"]["outside"] == "not checked"


def test_a_new_key_does_not_lead_back_to_the_old_one(write: Write, rotated: tuple[list[bytes], int]):
    bodies, covered = rotated
    files = {f"checkpoints/{covered}": both(bodies[:covered], OTHER_KEY, KEY), **key_file(KEY, OTHER_KEY)}
    assert judged(write(bodies, key=KEY, files=files), keys=[str(OTHER_KEY.verifier)])["words"]["tree"] == "failed"


def test_a_receipt_of_the_rotation_serves_where_its_event_is_not_in_the_window(write: Write):
    with tallystick.open("memory://") as database:
        ledger = database.ledger("main")
        ledger.post(tallystick.commands.RotateKey(key="rotate", source="log", public_key=str(OTHER_KEY.verifier)))
        for number in range(300):
            ledger.post(tallystick.commands.RotateKey(key=f"l{number}", source="log", public_key="another"))
        bodies = read_bodies(database, "main")
    window = {"window": (290, 302), "opening": {"first": 290, "balances": [], "locks": []}}
    folder = write_rotated(write, (bodies, 2), **window)
    report = judged(folder)
    assert "give the new key" in failures(report, "tree")[0]["problem"]
    assert judged(folder, keys=[str(OTHER_KEY.verifier)])["ok"]
    assert judged(folder, receipts=[receipt_of(bodies[:3], 1)])["words"]["tree"] == "passed"


def test_a_kept_checkpoint_that_only_a_stranger_signed_fails(write: Write, trade: list[bytes]):
    files = {"checkpoints/300": checkpoint_of(trade[:300], STRANGER), **key_file(STRANGER)}
    report = judged(write(trade, files=files))
    assert [failure["path"] for failure in failures(report, "tree")] == ["checkpoints/300"]


def test_a_policy_is_not_widened_by_a_key(write: Write, trade: list[bytes]):
    folder = write(trade, checkpoint=cosigned(checkpoint_of(trade)))
    named = policy("any", WITNESS)
    other = named.replace(VKEY.encode(), str(OTHER_KEY.verifier).encode())
    assert judged(folder, policy=named)["words"]["outside"] == "passed"
    report = judged(folder, policy=other)
    assert (report["words"]["tree"], report["words"]["outside"]) == ("failed", "not checked")


def test_a_policy_does_not_follow_a_rotation(write: Write, rotated: tuple[list[bytes], int]):
    folder = write_rotated(write, rotated)
    assert judged(folder, keys=[], policy=f"log {VKEY}\nquorum none\n".encode())["words"]["tree"] == "failed"
    named = f"log {OTHER_KEY.verifier}\nquorum none\n".encode()
    assert judged(folder, keys=[], policy=named)["words"]["tree"] == "passed"


W = [SecretKey.from_seed(f"w{number}.example", bytes([number]) * 32, COSIGNATURE).verifier for number in range(1, 4)]
UNCHECKED = VerifierKey("w.example", ML_DSA_44, bytes(1_312))
POLICIES = [
    f"log {VKEY}\nwitness a {W[0]}\nquorum a\n",
    f"log {UNCHECKED}\nlog {VKEY}\nquorum none\n",
    f"log {W[0]} https://x.example\nquorum none\n",
    f"log {VKEY}\nlog {VKEY}\nquorum none\n",
    f"witness a {VKEY}\nquorum a\n",
    f"witness a {UNCHECKED}\nquorum a\n",
    f"witness none {W[0]}\nquorum none\n",
    f"witness a {W[0]}\nwitness b {W[0]}\nquorum a\n",
    f"witness a {W[0]}\ngroup g any a a\nquorum g\n",
    f"witness a {W[0]}\ngroup g any a\ngroup h any a\nquorum g\n",
    f"witness a {W[0]}\ngroup g 01 a\nquorum g\n",
    f"witness a {W[0]}\ngroup g 2 a\nquorum g\n",
    f"witness a {W[0]}\ngroup a any a\nquorum a\n",
    f"witness a {W[0]}\nquorum a\nquorum a\n",
    f"quorum a\nwitness a {W[0]}\n",
    "quorum\n",
    "witness\nquorum none\n",
    "witness a\nquorum none\n",
    "log\nquorum none\n",
    "group g any\nquorum none\n",
    "group\nquorum none\n",
    "log x+00000000+AA==\nquorum none\n",
    "quorum none",
    "  quorum\tnone  \n# more\n\n",
    "quorum none # more\n",
    "nonsense\nquorum none\n",
    "",
    "#" * 1_000_001 + "\nquorum none\n",
    *[
        "".join(
            f"witness w{n} {VerifierKey('w', COSIGNATURE, SecretKey.from_seed('w', n.to_bytes(32)).verifier.key)}\n"
            for n in range(count)
        )
        + "".join(f"group g{n} any w{n}\n" for n in range(count))
        + "quorum g7\n"
        for count in (256, 257)
    ],
]


@pytest.mark.parametrize("text", POLICIES, ids=range(len(POLICIES)))
def test_policies_are_read_as_the_ledger_reads_them(text: str):
    def refusal(parse: Callable[[bytes], object], kind: type[Exception]) -> str:
        try:
            parse(text.encode())
        except kind as error:
            return str(error)
        return ""

    found = refusal(verify.parse_policy, verify.Bad)
    assert bool(found) == bool(refusal(Policy.parse, NoteInvalid))
    assert "out of range" not in found


def test_what_a_policy_names_and_nobody_checks_here_is_noted_and_does_not_count(write: Write, trade: list[bytes]):
    text = policy("any", WITNESS).replace(b"witness w0", f"log {UNCHECKED}\nwitness w0".encode())
    report = judged(write(trade, checkpoint=cosigned(checkpoint_of(trade))), policy=text)
    assert report["words"]["outside"] == "passed"
    assert any("do not count: w.example" in note for note in report["notes"])
    only = judged(write(trade), keys=[], policy=f"log {UNCHECKED}\nquorum none\n".encode())
    assert only["words"]["tree"] == "failed"


# ---------------------------------------------------------------- attestations


def attestation(told: Told, key: SecretKey = KEY, **changes: object) -> bytes:
    owed: dict[str, int] = {}
    for row in told.balances:
        if not row["account"].startswith("@"):
            owed[row["asset"]] = owed.get(row["asset"], 0) + max(int(row["amount"]), 0)
    statement = {
        "ledger": "main",
        "size": len(told.bodies),
        "liabilities": {a: str(n) for a, n in owed.items()},
        **changes,
    }
    return sign_envelope(verify.ATTESTATION, encoded(statement), key)


def test_an_attestation_whose_liabilities_are_those_of_the_events_passes(write: Write, told: Told):
    report = judged(write(told.bodies, files={"attestations/1.json": attestation(told)}))
    assert report["words"]["attestation"] == "passed"


@pytest.mark.parametrize(
    "changes",
    [
        {"liabilities": {"USD/2": "1"}},
        {"size": 12},
        {"size": 80},
        {"ledger": "other"},
        {"liabilities": []},
        {"size": -1},
    ],
)
def test_an_attestation_that_says_something_else_fails(write: Write, told: Told, changes: dict[str, object]):
    report = judged(write(told.bodies, files={"attestations/1.json": attestation(told, **changes)}))
    assert report["words"]["attestation"] == "failed"


def test_an_attestation_names_its_signer_and_says_that_reserves_are_not_checked(write: Write, told: Told):
    report = judged(write(told.bodies, files={"attestations/1.json": attestation(told, reserves={"USD/2": "9"})}))
    detail = report["verdicts"]["attestation"]["detail"]
    assert ORIGIN in detail
    assert "reserves not checked" in detail


@pytest.mark.parametrize("name", [ORIGIN, "evil.example/x"])
def test_an_attestation_by_a_stranger_whose_key_lies_in_the_bundle_fails(write: Write, told: Told, name: str):
    stranger = SecretKey.from_seed(name, b"\7" * 32, ED25519)
    files = {"attestations/1.json": attestation(told, stranger), **key_file(stranger)}
    for keys in ([VKEY], []):
        assert judged(write(told.bodies, files=files), keys=keys)["words"]["attestation"] == "failed"
    named = judged(write(told.bodies, files=files), keys=[VKEY, str(stranger.verifier)])
    assert named["words"]["attestation"] == ("passed" if name == ORIGIN else "failed")


def test_a_key_that_stands_twice_in_an_attestation_is_refused(write: Write, told: Told):
    twice = attestation(told).replace(b"{", b'{"payload":"",', 1)
    report = judged(write(told.bodies, files={"attestations/1.json": twice}))
    assert failures(report, "attestation")[0]["problem"] == "a key stands twice in it"


def test_after_a_rotation_an_attestation_counts_under_the_key_that_leads_to_it(
    write: Write, rotated: tuple[list[bytes], int]
):
    def statement(key: SecretKey) -> bytes:
        return sign_envelope(verify.ATTESTATION, encoded({"ledger": "main", "size": 3, "liabilities": {}}), key)

    old, new = (
        write_rotated(write, rotated, files={"attestations/1.json": statement(key)}) for key in (KEY, OTHER_KEY)
    )
    assert judged(old)["words"]["attestation"] == judged(new)["words"]["attestation"] == "passed"
    assert judged(new, keys=[str(OTHER_KEY.verifier)])["words"]["attestation"] == "passed"
    report = judged(old, keys=[str(OTHER_KEY.verifier)])
    assert report["words"]["attestation"] == "not checked"
    assert any("does not lead to" in note for note in report["notes"])


def test_an_attestation_that_nobody_known_signed_fails(write: Write, told: Told):
    report = judged(write(told.bodies, files={"attestations/1.json": attestation(told, OTHER_KEY)}))
    assert report["words"]["attestation"] == "failed"
    garbage = judged(write(told.bodies, files={"attestations/1.json": b'{"payload":1}'}))
    assert garbage["words"]["attestation"] == "failed"


# ---------------------------------------------------------------- windows


@pytest.mark.parametrize("window", [(1, 700), (256, 512), (300, 301), (511, 513), (600, 700)])
def test_a_window_is_verified_with_the_balances_that_it_opens_with(
    write: Write, trade: list[bytes], window: tuple[int, int]
):
    folder = write(trade, window=window, opening=opening_of(trade, window[0]))
    report = judged(folder)
    assert report["ok"], report
    assert [report["words"][name] for name in ("bytes", "chain", "tree", "accounting")] == ["passed"] * 4
    assert report["window"] == f"{window[0]} to {window[1]}"
    if window[0] == 1:  # the events before it are in its first bundle
        assert report["conclusion"] == "internally consistent, not witnessed"
        return
    assert any("taken on trust" in note for note in report["notes"])
    part = f"events {window[0]} to {window[1] - 1} of 700, opening taken on trust"
    assert report["conclusion"] == f"internally consistent, not witnessed ({part})"
    assert part in report["verdicts"]["accounting"]["detail"]


@pytest.mark.parametrize(("window", "part"), [((5, 700), ""), ((200, 256), " (events 0 to 255 of 700)")])
def test_a_forged_opening_is_of_no_use_where_the_events_before_it_are_here(
    write: Write, trade: list[bytes], window: tuple[int, int], part: str
):
    opening = opening_of(trade, window[0])
    opening["balances"][0]["amount"] = "100000000"
    report = judged(write(trade, window=window, opening=opening))
    assert report["conclusion"] == f"internally consistent, not witnessed{part}"
    assert any("opening.json was not used" in note for note in report["notes"])


def test_an_opening_that_would_only_fill_the_memory_is_not_decoded(write: Write, trade: list[bytes]):
    for rows in ([{}] * 1_000, [[]] * 1_000, list("ab") * 10_000):
        folder = write(trade, window=(300, 700), opening={"first": 300, "balances": rows})
        problems = [failure["problem"] for failure in failures(judged(folder), "accounting")]
        assert "it has too many values for its size" in problems


def test_an_empty_window_is_none(write: Write, trade: list[bytes]):
    report = judged(write(trade, window=(0, 0)))
    assert "window" in [failure["field"] for failure in failures(report, "bytes") if "field" in failure]
    assert not report["ok"]


def test_a_window_whose_opening_balances_are_wrong_fails_where_they_are_used(write: Write, trade: list[bytes]):
    opening = opening_of(trade, 300)
    for row in opening["balances"]:
        row["amount"] = str(int(row["amount"]) + 1)
    report = judged(write(trade, window=(300, 700), opening=opening))
    assert failures(report, "accounting")[0]["field"] == "entries[0].before"


@pytest.mark.parametrize(
    "opening", [None, {"first": 299, "balances": [], "locks": []}, {"first": 300, "balances": [1]}]
)
def test_a_window_without_its_opening_fails(write: Write, trade: list[bytes], opening: dict[str, object] | None):
    assert judged(write(trade, window=(300, 700), opening=opening))["words"]["accounting"] == "failed"


def test_the_first_event_of_a_window_must_follow_the_hash_before_it(write: Write, trade: list[bytes]):
    folder = write(trade, window=(512, 700), opening=opening_of(trade, 512))
    tile = folder / "tile/0/001"
    tile.write_bytes(tile.read_bytes()[:-1] + b"\0")
    report = judged(folder)
    assert [(failure["seq"], failure["field"]) for failure in failures(report, "chain")] == [(512, "prev")]
    assert report["words"]["tree"] == "failed"


def test_an_opening_that_tells_of_policy_and_accounts_leaves_nothing_open(write: Write, trade: list[bytes]):
    opening = {
        **opening_of(trade, 300),
        "policy": vars(verify.Rules()),
        "accounts": [{"account": "members:m", "limits": {"USD/2": "2000"}}],
    }
    report = judged(write(trade, window=(300, 700), opening=opening))
    assert report["ok"], report
    opening["accounts"] = []
    assert judged(write(trade, window=(300, 700), opening=opening))["ok"]


def test_a_log_of_nothing_is_a_log(tmp_path: Path, write: Write):
    empty = sign_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), KEY)
    report = judged(write([], checkpoint=empty))
    assert report["ok"], report
    assert [report["words"][name] for name in ("bytes", "chain", "accounting")] == ["not checked"] * 3
