"""Erasable texts from the command line: given, shown, and erased."""

from __future__ import annotations

import json

from tallystick.erasable import is_commitment
from tests.cli.conftest import Tally

PAY = ("transfer", "users:alice", "users:bob", "1", "USD/2")
SECRET = "Zoë, = 🪵"


def test_a_text_is_given_shown_and_erased(tally: Tally) -> None:
    posted = tally.json(*PAY, "--erasable", f"name={SECRET}", "--meta", "plain=p", "--key", "k")
    document = tally.json("transaction", posted["id"])
    assert document["opened"] == {"metadata.name": SECRET}
    assert is_commitment(document["event"]["data"]["metadata"]["name"])
    assert document["event"]["data"]["metadata"]["plain"] == "p"
    assert f"metadata.name opened  {SECRET}\n" in tally("transaction", posted["id"])
    assert SECRET not in tally("events", "--json")
    assert tally.json("erase", posted["id"]) == {"ledger": "main", "erased": 1}
    assert tally.json("transaction", posted["id"])["opened"] == {"metadata.name": None}
    assert "metadata.name opened  (erased)\n" in tally("transaction", posted["id"])
    assert tally("erase", str(posted["seq"])) == "nothing was left to erase\n"
    assert tally.json("replay")["ok"]


def test_one_commitment_is_erased_by_itself(tally: Tally) -> None:
    posted = tally.json(*PAY, "--erasable", "a=first", "--erasable", "b=second")
    commitment = tally.json("transaction", posted["id"])["event"]["data"]["metadata"]["a"]
    assert tally("erase", commitment) == "erased: 1 text\n"
    assert tally.json("transaction", posted["id"])["opened"] == {"metadata.a": None, "metadata.b": "second"}
    tally(*PAY, "--erasable", "a=first", "--erasable", "b=second", "--key", "k")
    assert tally("erase", str(posted["seq"] + 1)) == "erased: 2 texts\n"


def test_a_transaction_without_such_texts_says_nothing_of_them(tally: Tally) -> None:
    assert "opened" not in tally.json("transaction", "1")
    assert "opened" not in tally("transaction", "1")
    assert tally("erase", "1") == "nothing was left to erase\n"


MAPPING = """
command = "transfer"
key = "{Id}"
[fields]
from_account = "users:alice"
to_account = "users:bob"
asset = "USD/2"
amount = "1.00"
reason = { column = "Why", erasable = true }
metadata = { who = { template = "{Name} <{Mail}>", erasable = true }, plain = "{Id}" }
"""


def test_an_import_makes_texts_erasable(tally: Tally) -> None:
    rows = "Id,Why,Name,Mail\n1,gift,Zoë,z@example.org\n2,,Bob,b@example.org\n3,4242 4242 4242 4242,Eve,e@example.org\n"
    paths = tally.write("rows.csv", rows), "--mapping", tally.write("mapping.toml", MAPPING)
    report = json.loads(tally.run("import", *paths, "--json").stdout)
    assert (report["posted"], report["refused"]) == (2, 1)
    assert "4242" not in json.dumps(report)
    first, second = (tally.json("transaction", "--key", key, "--source", "import") for key in "12")
    assert first["opened"] == {"reason": "gift", "metadata.who": "Zoë <z@example.org>"}
    assert second["opened"] == {"metadata.who": "Bob <b@example.org>"}
    assert first["event"]["data"]["metadata"]["plain"] == "1"
    again = json.loads(tally.run("import", *paths, "--json").stdout)
    assert (again["posted"], again["replayed"]) == (0, 2)


def test_only_a_text_that_may_be_erasable_is_mapped_to_one(tally: Tally) -> None:
    refs = 'refs = { order = { value = "1", erasable = true } }'
    for field in ('amount = { value = "1", erasable = true }', f'amount = "1.00"\n{refs}'):
        mapping = MAPPING.replace('amount = "1.00"', field)
        paths = tally.write("rows.csv", "Id\n1\n"), "--mapping", tally.write("mapping.toml", mapping)
        assert "can be erasable" in tally.run("import", *paths).stderr


def test_what_cannot_be_is_refused(tally: Tally) -> None:
    assert tally.refused("erase", "99")["code"] == "transaction_not_found"
    refused = tally.refused(*PAY, "--erasable", "pan=4242 4242 4242 4242")
    assert refused["code"] == "card_number"
    assert "4242" not in str(refused)
    assert tally.refused(*PAY, "--meta", "pan=5555-5555-5555-4444")["code"] == "card_number"
    assert "--meta as well" in str(tally.refused(*PAY, "--meta", "a=b", "--erasable", "a=c", code=2))
    tally.refused(*PAY, "--erasable", "nothing", code=2)


def test_no_ledger_is_made_to_be_erased_in(empty: Tally) -> None:
    empty.refused("erase", "1", code=3)
