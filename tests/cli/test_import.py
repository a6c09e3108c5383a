"""Import: rows become commands, once each, and what is wrong is told with its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tallystick.importing import MAX_BATCH, MAX_LINE_BYTES
from tests.cli.conftest import Tally

PAYMENTS = """
command = "transfer"
key = "bank:{Id}"

[fields]
from_account = "users:{From}"
to_account = "users:{To}"
asset = "USD/2"
amount = { column = "Amount" }
"""
HEADER = "Id,From,To,Amount\n"


def _import(tally: Tally, rows: str | bytes, mapping: str = PAYMENTS, *more: str, name: str = "rows.csv") -> Any:
    """The report, whatever the exit code, which must fit it."""
    paths = (tally.write(name, rows), "--mapping", tally.write("mapping.toml", mapping))
    result = tally.run("import", *paths, "--json", *more)
    report = json.loads(result.stdout)
    assert result.exit_code == (0 if report["ok"] else 1)
    return report


def _counts(report: Any) -> tuple[int, int, int, int, int]:
    return tuple(report[name] for name in ("posted", "replayed", "refused", "malformed", "skipped"))  # type: ignore[return-value]


def _wrong(report: Any) -> list[tuple[int, str]]:
    return [(problem["line"], problem["code"]) for problem in report["problems"]]


# ---------------------------------------------------------------- rows


def test_rows_are_posted_once_however_often_they_are_imported(tally: Tally) -> None:
    rows = HEADER + "1,alice,bob,12.34\n2,alice,carol,0.66\n"
    assert _counts(_import(tally, rows)) == (2, 0, 0, 0, 0)
    assert _counts(_import(tally, rows + "3,alice,bob,1\n")) == (1, 2, 0, 0, 0)
    assert tally.available("users:bob") == {"USD/2": "1334"}


def test_a_malformed_row_is_told_with_its_line_and_the_rest_is_posted(tally: Tally) -> None:
    rows = HEADER + "1,alice,bob,1\n2,alice\n3,alice,bob,much\n\n5,alice,bob,1.234\n6,alice,bob,2\n"
    report = _import(tally, rows)
    assert _counts(report) == (2, 0, 0, 3, 0)
    assert _wrong(report) == [(3, "malformed"), (4, "malformed"), (6, "malformed")]
    assert [problem["reason"] for problem in report["problems"]] == [
        "it has 2 fields, the header has 4",
        "amount: 'much' is not a number",
        "amount: '1.234' has more decimals than USD/2 carries",
    ]


def test_a_refused_row_is_told_with_its_line_and_key(tally: Tally) -> None:
    report = _import(tally, HEADER + "1,alice,bob,1\n2,alice,bob,1000\n3,alice,alice,1\n4,bob,alice,1\n")
    assert _counts(report) == (2, 0, 2, 0, 0)
    assert _wrong(report) == [(3, "insufficient_funds"), (4, "self_transfer")]
    assert report["problems"][0]["key"] == "bank:2"


def test_the_same_key_with_another_body_is_a_conflict_not_a_replay(tally: Tally) -> None:
    _import(tally, HEADER + "1,alice,bob,1\n")
    assert _wrong(_import(tally, HEADER + "1,alice,bob,2\n")) == [(2, "idempotency_conflict")]


@pytest.mark.parametrize("bad", ["2,alice", "2,alice,bob,1000"])
def test_an_atomic_import_posts_every_row_or_none(tally: Tally, bad: str) -> None:
    report = _import(tally, f"{HEADER}1,alice,bob,1\n{bad}\n3,alice,bob,1\n", PAYMENTS, "--atomic")
    assert report["aborted"] is True
    assert report["posted"] == 0
    assert [line for line, _ in _wrong(report)] == [3]
    assert tally.available("users:bob") == {}
    assert _counts(_import(tally, HEADER + "1,alice,bob,1\n3,alice,bob,1\n", PAYMENTS, "--atomic"))[0] == 2


def test_an_atomic_import_has_a_limit(tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.importing.importer.MAX_WHOLE", 3)
    rows = HEADER + "".join(f"{number},alice,bob,1\n" for number in range(4))
    paths = tally.write("rows.csv", rows), tally.write("mapping.toml", PAYMENTS)
    result = tally.run("import", paths[0], "-m", paths[1], "--atomic")
    assert result.exit_code == 2
    assert "takes 3 commands at most; nothing was posted" in result.stderr
    assert tally.available("users:bob") == {}
    assert _import(tally, "".join(rows.splitlines(keepends=True)[:4]), PAYMENTS, "--atomic")["posted"] == 3


def test_a_dry_run_counts_and_writes_nothing(tally: Tally) -> None:
    rows = HEADER + "1,alice,bob,60\n2,bob,carol,60\n3,alice,bob,60\n"
    report = _import(tally, rows, PAYMENTS, "--dry-run")
    assert _counts(report) == (2, 0, 1, 0, 0)
    assert len(tally.lines("events")) == 2


def test_an_import_may_be_longer_than_a_batch(tally: Tally) -> None:
    rows = "".join(f"{number},alice,bob,0.01\n" for number in range(MAX_BATCH + 3))
    assert _counts(_import(tally, HEADER + rows)) == (MAX_BATCH + 3, 0, 0, 0, 0)
    assert tally.available("users:bob") == {"USD/2": str(MAX_BATCH + 3)}


def test_rows_may_come_from_standard_input_and_from_a_packed_file(tally: Tally) -> None:
    mapping = tally.write("mapping.toml", PAYMENTS)
    rows = HEADER + "1,alice,bob,1\n"
    assert tally.json("import", "-", "-m", mapping, stdin=rows.encode())["posted"] == 1
    packed = tally.write("rows.csv.gz", gzip.compress(rows.encode()))
    assert tally.json("import", packed, "-m", mapping)["replayed"] == 1
    cut = tally.write("cut.csv.gz", gzip.compress(rows.encode())[:-12])
    assert tally.run("import", cut, "-m", mapping).exit_code == 2


def test_people_see_the_problems_and_the_counts(tally: Tally) -> None:
    paths = tally.write("rows.csv", HEADER + "1,alice,bob,1\nx\n" * 30), tally.write("mapping.toml", PAYMENTS)
    result = tally.run("import", paths[0], "-m", paths[1])
    assert result.exit_code == 1
    errors = result.stderr.splitlines()
    assert errors[0] == "line 3: malformed: it has 1 fields, the header has 4"
    assert len(errors) == 21
    assert errors[-1].startswith("and 10 more")
    assert "malformed  30" in result.stdout


# ---------------------------------------------------------------- CSV


def test_quotes_may_hold_delimiters_and_lines(tally: Tally) -> None:
    mapping = PAYMENTS + 'reason = "{Why}"\n'
    rows = 'Id,From,To,Amount,Why\n1,alice,bob,1,"one, and\ntwo"\n2,alice,bob\n'
    report = _import(tally, rows, mapping)
    assert _counts(report) == (1, 0, 0, 1, 0)
    assert _wrong(report) == [(4, "malformed")]
    assert tally.lines("register", "users:bob")[0]["reason"] == "one, and\ntwo"


@pytest.mark.parametrize("bad", ['2,"alice,bob,1', '2,"alice"x,bob,1', "2,\udcff,bob,1"])
def test_a_row_that_is_not_csv_does_not_swallow_the_rest(tally: Tally, bad: str) -> None:
    rows = f"{HEADER}1,alice,bob,1\n{bad}\n3,alice,bob,1\n4,alice,bob,1\n".encode(errors="surrogateescape")
    report = _import(tally, rows)
    assert _counts(report) == (3, 0, 0, 1, 0)
    assert _wrong(report) == [(3, "malformed")]


def test_a_line_without_end_is_malformed_not_a_full_memory(tally: Tally) -> None:
    rows = f"{HEADER}1,alice,bob,1\n2,{'x' * (MAX_LINE_BYTES + 1)}\n3,alice,bob,1\n"
    report = _import(tally, rows)
    assert _counts(report) == (2, 0, 0, 1, 0)
    assert _wrong(report) == [(3, "malformed")]


def test_a_byte_order_mark_and_another_encoding_are_read(tally: Tally) -> None:
    assert _import(tally, b"\xef\xbb\xbf" + HEADER.encode() + b"1,alice,bob,1\r\n")["posted"] == 1
    mapping = PAYMENTS.replace("[fields]", 'encoding = "cp1252"\ndelimiter = ";"\n[fields]\nreason = "{Zweck}"')
    rows = "Id;From;To;Amount;Zweck\n2;alice;bob;1;Gebühr\n".encode("cp1252")
    assert _import(tally, rows, mapping)["posted"] == 1
    assert tally.lines("register", "users:bob")[1]["reason"] == "Gebühr"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("", "is empty"),
        ("Id,From,To,Sum\n1,alice,bob,1\n", "no column 'Amount'; there are Id, From, To, Sum"),
        ("Id,From,To,Amount,Id\n", "two columns named 'Id'"),
    ],
)
def test_a_file_that_does_not_fit_the_mapping_is_wrong_usage(tally: Tally, rows: str, told: str) -> None:
    paths = tally.write("rows.csv", rows), tally.write("mapping.toml", PAYMENTS)
    result = tally.run("import", paths[0], "-m", paths[1])
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_file_that_is_not_there_is_wrong_usage(tally: Tally) -> None:
    mapping = tally.write("mapping.toml", PAYMENTS)
    assert tally.run("import", "nowhere.csv", "-m", mapping).exit_code == 2
    assert tally.run("import", mapping, "-m", "nowhere.toml").exit_code == 2
    assert tally.run("import", tally.write("rows.csv", HEADER)).exit_code == 2
    assert tally.run("import", str(tally.folder), "-m", mapping).exit_code == 2


# ---------------------------------------------------------------- the mapping


def test_a_mapping_may_be_json_and_amounts_minor(tally: Tally) -> None:
    document = {
        "command": "deposit",
        "key": "{@file}:{@line}",
        "unit": "minor",
        "zone": "UTC",
        "fields": {
            "from_account": "@external:bank",
            "to_account": "users:{who.name}",
            "asset": "{asset}",
            "amount": "{amount}",
            "effective": {"column": "day"},
            "refs": {"external_ref": "{ref}"},
            "metadata": {"note": "{{as given}} {note}"},
        },
    }
    row = {"who": {"name": "dora"}, "asset": "USD/2", "amount": 5, "day": "2026-01-02", "ref": "R1", "note": None}
    paths = tally.write("rows.jsonl", json.dumps(row)), tally.write("mapping.json", json.dumps(document))
    assert tally.json("import", paths[0], "-m", paths[1])["posted"] == 1
    event = tally.json("transaction", "--key", "rows.jsonl:1", "--source", "import")["event"]
    assert event["type"] == "deposit"
    assert event["effective"] == "2026-01-02T00:00:00.000000Z"
    assert event["data"]["metadata"] == {"note": "{as given} "}
    assert [entry["amount"] for entry in event["entries"]] == ["-5", "5"]


def test_amounts_and_times_are_read_as_the_mapping_says(tally: Tally) -> None:
    mapping = """
command = "mint"
key = "m:{Id}"
delimiter = ";"
skip_if = { Id = ["9", ""] }
keep_if = [{ Betrag = { matches = "," } }, { Id = 3 }]

[fields]
from_account = "@issuance"
to_account = { column = "Wer", map = { A = "users:anna", B = "users:bert" } }
asset = "EUR/2"
amount = { column = "Betrag", decimal = ",", group = ".", absolute = true }
effective = { column = "Tag", format = "%d.%m.%Y", zone = "UTC", omit_if = ["-"] }
"""
    rows = "\n".join(
        [
            "Id;Wer;Betrag;Tag",
            "1;A;-1.234,56;03.02.2026",
            "2;C;1,00;-",
            "9;A;1,00;-",
            "3;B;7;-",
            "4;A;8;-",
            "5;A;1,00;3.Feb",
            "6;A;1,5;-",
        ]
    )
    report = _import(tally, rows, mapping)
    assert _counts(report) == (3, 0, 0, 2, 2)
    assert _wrong(report) == [(3, "malformed"), (7, "malformed")]
    assert tally.available("users:anna") == {"EUR/2": str(123456 + 150)}
    assert [row["amount"] for row in tally.json("balances", "users:anna", "--as-of", "2026-02-04")] == ["123456"]


def test_rows_may_be_kept_by_bounds_on_a_number(tally: Tally) -> None:
    mapping = PAYMENTS.replace("[fields]", "keep_if = { Amount = { above = 1, below = 10 } }\n[fields]")
    report = _import(tally, HEADER + "1,alice,bob,1\n2,alice,bob,5\n3,alice,bob,10\n4,alice,bob,NA\n", mapping)
    assert _counts(report) == (1, 0, 0, 0, 3)


def test_a_row_may_point_to_the_transaction_of_another_row(tally: Tally) -> None:
    stake = """
command = "bet_stake"
key = "stake:{Id}"
[fields]
account = "users:alice"
asset = "USD/2"
amount = "{Bet}"
refs = { round = "{Round}" }
"""
    settle = """
command = "bet_settlement"
key = "settle:{Id}"
asset = "USD/2"
[fields]
bet = { by_key = "stake:{Id}" }
house = "house"
payout = { column = "Won", default = "0" }
refs = { round = "{Round}" }
"""
    rows = "Id,Round,Bet,Won\n1,R1,10,\n2,R1,5,0\n"
    assert _counts(_import(tally, rows, stake)) == (2, 0, 0, 0, 0)
    report = _import(tally, rows + "3,R2,1,0\n", settle)
    assert _counts(report) == (2, 0, 1, 0, 0)
    assert _wrong(report) == [(4, "transaction_not_found")]
    assert tally.available("house") == {"USD/2": "1500"}
    assert _counts(_import(tally, rows, settle)) == (0, 2, 0, 0, 0)


def test_a_row_may_point_to_a_row_above_it_in_the_same_file(tally: Tally) -> None:
    mapping = """
command = "adjustment"
key = "{Id}"
source = "local"
[fields]
from_account = "users:alice"
to_account = "users:bob"
asset = "USD/2"
amount = "1"
actor = "ops"
reason = "put right"
refs = { corrects = { by_key = "{Prev}" } }
"""
    assert _counts(_import(tally, "Id,Prev\na,first\nb,a\nc,nothing\nd,b\n", mapping)) == (3, 0, 1, 0, 0)
    corrected = [line["event"]["refs"]["corrects"] for line in tally.lines("events", "--after", "1")]
    assert corrected == ["main/1", "main/2", "main/3"]


def test_splits_of_a_capture_are_in_the_asset_that_the_mapping_names(tally: Tally) -> None:
    hold = tally.json("hold", "create", "users:alice", "10", "USD/2")["id"]
    mapping = """
command = "capture"
key = "order:{Order}"
asset = "USD/2"
[fields]
hold = "{Hold}"
splits = [{ to_account = "shops:{Shop}", amount = "{Price}" }, { to_account = "@fees", to_bucket = "fees", amount = 1 }]
final = false
"""
    report = _import(tally, f"Order,Hold,Shop,Price\n1,{hold},books,3.50\n2,{hold},tea,9\n", mapping)
    assert _wrong(report) == [(3, "over_capture")]
    assert tally.available("shops:books") == {"USD/2": "350"}
    assert tally.json("holds", "--account", "users:alice")["remaining"] == "550"


def test_legs_and_limits_are_mapped_field_by_field(tally: Tally) -> None:
    split = """
command = "post"
key = "s:{Id}"
[fields]
type = "transfer"
legs = [
  { from_account = "users:alice", to_account = "users:{To}", asset = "USD/2", amount = "{Net}" },
  { from_account = "users:alice", to_account = "users:tax", asset = "USD/2", amount = "{Tax}" },
]
conditions = [{ account = "users:alice", asset = "USD/2", at_least = "50" }]
"""
    report = _import(tally, "Id,To,Net,Tax\n1,bob,10,1\n2,bob,40,5\n", split)
    assert _wrong(report) == [(3, "condition_failed")]
    assert tally.available("users:tax") == {"USD/2": "100"}
    member = """
command = "open_account"
key = "member:{Name}"
[fields]
account = "members:{Name}"
limits = { CRED = "{Limit}" }
"""
    assert _import(tally, "Name,Limit\nann,1000\n", member)["posted"] == 1
    assert tally.json("account", "show", "members:ann")["limits"] == {"CRED": "1000"}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('"transfer"', '"tranfer"', "'tranfer' is not one of"),
        ('key = "bank:{Id}"', "", "missing required field `key`"),
        ("to_account", "to_acount", "has only"),
        ('to_account = "users:{To}"', "", "to_account"),
        ('asset = "USD/2"', 'asset = "usd"', "not an asset"),
        ('"users:{To}"', '"users:{To"', "stands alone"),
        ('{ column = "Amount" }', '{ column = "Amount", units = "minor" }', "units"),
        ('{ column = "Amount" }', '{ column = "Amount", template = "x" }', "one of column"),
        ("[fields]", 'zone = "Mars"\n[fields]\neffective = "{Id}"', "not a time zone"),
        ("[fields]", "[fields", "cannot be read"),
        ("[fields]", 'delimiter = ",,"\n[fields]', "one character"),
        ("[fields]", 'encoding = "utf-16"\n[fields]', "not an encoding"),
        ("[fields]", 'skip_if = { Id = { matches = "(" } }\n[fields]', "not a pattern"),
    ],
)
def test_a_wrong_mapping_is_told_with_its_place(tally: Tally, before: str, after: str, told: str) -> None:
    assert before in PAYMENTS
    paths = tally.write("rows.csv", HEADER), tally.write("mapping.toml", PAYMENTS.replace(before, after))
    result = tally.run("import", paths[0], "-m", paths[1])
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_time_without_a_zone_is_malformed_unless_the_mapping_names_one(tally: Tally) -> None:
    mapping = PAYMENTS + 'effective = "{When}"\n'
    rows = "Id,From,To,Amount,When\n1,alice,bob,1,2026-01-02T03:04:05\n"
    assert "no time zone" in _import(tally, rows, mapping)["problems"][0]["reason"]


# ---------------------------------------------------------------- whole commands


def _command(number: int, **more: Any) -> str:
    fields = {"from_account": "users:alice", "to_account": "users:bob", "asset": "USD/2", "amount": "100"}
    return json.dumps({"command": "transfer", "key": f"c{number}", **fields, **more})


def test_lines_may_be_whole_commands(tally: Tally) -> None:
    hold = json.dumps({"command": "hold", "key": "h", "account": "users:alice", "asset": "USD/2", "amount": 500})
    path = tally.write("commands.jsonl", f"{_command(1)}\n\n{hold}\n{_command(2, amount=1)}\n")
    assert _counts(tally.json("import", path)) == (3, 0, 0, 0, 0)
    assert tally.available("users:bob") == {"USD/2": "101"}
    assert _counts(tally.json("import", path)) == (0, 3, 0, 0, 0)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "it is not JSON"),
        ('{"command": "transfer"', "it is not JSON"),
        ("[1]", "it is not a JSON object"),
        ("\xff", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("{}", "command: it is missing"),
        ('{"command": 7}', "command: 7 is not one of"),
        ('{"command": "transfr"}', "command: 'transfr' is not one of"),
        ('{"command": "transfer", "key": "x"}', "missing required field"),
        (_command(9, amount=1.0), "1.0 is not a whole number"),
        (_command(9, amount="1.0"), "amount: '1.0' is not a whole number"),
        (_command(9, amount=None), "amount: Expected `int`, got `null`"),
        (_command(9, amount=True), "amount: Expected `int`, got `bool`"),
        (_command(9, amuont=1), "amuont: there is no such field"),
        (_command(9, conditions=[{"account": "a", "asset": "B", "atleast": 1}]), "conditions[0].atleast"),
        (_command(9, conditions=7), "conditions: Expected `array`, got `int`"),
        ('{"command": "open_ledger", "key": "x", "name": "main"}', "tally create"),
    ],
)
def test_a_malformed_line_is_told_and_the_others_are_posted(tally: Tally, bad: str, reason: str) -> None:
    lines = [_command(1), _command(2), bad, _command(4)]
    path = tally.write("commands.jsonl", "\n".join(lines).encode("latin-1"))
    result = tally.run("import", path, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert _counts(report) == (3, 0, 0, 1, 0)
    assert _wrong(report) == [(3, "malformed")]
    assert reason in report["problems"][0]["reason"]


def test_the_shipped_bets_can_be_imported(tally: Tally) -> None:
    """Two thousand of the real bets that the demo uses, as stakes."""
    shipped = Path(__file__).parents[2] / "examples" / "demo" / "data" / "bustabit" / "bustabit.csv.gz"
    rows = gzip.decompress(shipped.read_bytes()).splitlines(keepends=True)[:2_001]
    mapping = """
command = "mint"
key = "bet:{Id}"
source = "bustabit"
[fields]
from_account = "@issuance"
to_account = "players:{Username}"
asset = "BIT/2"
amount = "{Bet}"
effective = "{PlayDate}"
"""
    assert _counts(_import(tally, b"".join(rows), mapping)) == (2_000, 0, 0, 0, 0)
    assert _counts(_import(tally, b"".join(rows), mapping)) == (0, 2_000, 0, 0, 0)
