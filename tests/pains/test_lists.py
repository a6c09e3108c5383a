"""Pains 18 to 20: lists that keep their filters, a month of one account, and the books as of a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conftest import NewUrl
from tests.pains.support import MAIN, USD, Crowd, Teller, balance, hold, pay
from tests.support.service import serving
from tests.support.stores import LASTING


class Calendar:
    """A clock that a test turns on by days; each look is a little later than the one before."""

    def __init__(self, now: str = "2026-01-01T00:00:00+00:00") -> None:
        self.now = datetime.fromisoformat(now)

    def __call__(self) -> str:
        self.now += timedelta(microseconds=1)
        return self.now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def turn_to(self, time: str) -> None:
        self.now = max(datetime.fromisoformat(time), self.now)


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture(params=LASTING)
def dated(request: pytest.FixtureRequest, new_url: NewUrl, calendar: Calendar) -> Iterator[Crowd]:
    """A service whose clock the test turns on."""
    url = new_url(request.param)
    with serving(url, clock=calendar) as served, Crowd(url, [served]) as crowd:
        yield crowd


def walk(caller: Teller, path: str, limit: int, **filters: Any) -> list[list[Any]]:
    """The pages of a list; after the first one, only the cursor and the page size are said again."""
    pages: list[list[Any]] = []
    page = caller.get(f"{MAIN}/{path}", limit=limit, **filters).json()
    while True:
        pages.append(page["items"])
        if not page["cursor"]:
            return pages
        page = caller.get(f"{MAIN}/{path}", cursor=page["cursor"]).json()


# ---------------------------------------------------------------- pages


def test_every_page_keeps_the_filters_and_the_size_of_the_first(crowd: Crowd) -> None:
    """Pain 18. From the second page on lists forgot what they had been asked for: the filter, or the page size.
    https://github.com/formancehq/stack/issues/43 https://github.com/formancehq/ledger/pull/914
    https://github.com/formancehq/ledger/pull/971

    Each list is read in pages of three while others write, and must be what one large page was.
    """
    admin = crowd.admin
    for number in range(8):
        admin.done(f"{MAIN}/transfers", pay(1, payee=f"shops:{number}", refs={"order": f"o-{number % 2}"}))
        found = hold(admin, 5)
        admin.done(f"{MAIN}/holds/{found}/release", {}) if number % 2 else None
        admin.done(f"{MAIN}/mint", {"account": "users:alice", "asset": "EUR/2", "amount": "1"})
    lists: list[tuple[str, dict[str, str]]] = [
        ("accounts", {"prefix": "shops:"}),
        ("entries", {"account": "users:alice", "asset": USD, "bucket": "available"}),
        ("transactions", {"reference": "order", "value": "o-1"}),
        ("holds", {"account": "users:alice", "state": "active"}),
        ("events", {"types": "hold,transfer", "account": "users:alice"}),
    ]
    for path, filters in lists:
        whole = admin.get(f"{MAIN}/{path}", limit=1_000, **filters).json()
        assert len(whole["items"]) >= 4, path
        first = admin.get(f"{MAIN}/{path}", limit=3, **filters).json()
        pages = [first["items"]]
        while first["cursor"]:
            admin.done(f"{MAIN}/transfers", pay(1, payee="users:late"))
            first = admin.get(f"{MAIN}/{path}", cursor=first["cursor"]).json()
            pages.append(first["items"])
        assert [item for page in pages for item in page] == whole["items"], path
        assert all(len(page) == 3 for page in pages[:-1]), (path, [len(page) for page in pages])


def test_a_cursor_is_not_for_other_filters_other_lists_or_other_hands(crowd: Crowd) -> None:
    """Pain 18. A filter that contradicts the cursor's is refused, rather than one of them being dropped.
    https://github.com/formancehq/ledger/pull/914
    """
    for number in range(4):
        crowd.admin.done(f"{MAIN}/transfers", pay(1, payee=f"shops:{number}"))
    cursor = crowd.admin.get(f"{MAIN}/accounts", prefix="shops:", limit=2).json()["cursor"]

    def refused(path: str, **query: Any) -> bool:
        return crowd.admin.get(f"{MAIN}/{path}", **query).status_code == 400

    assert refused("accounts", cursor=cursor, prefix="users:")
    assert refused("entries", cursor=cursor)
    assert refused("accounts", cursor=cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB"))
    reader = crowd.fronts[0].caller(role="reader")
    assert reader.get(f"{MAIN}/accounts", cursor=cursor).status_code == 400
    assert crowd.admins[-1].get(f"{MAIN}/accounts", cursor=cursor).status_code == 200


# ---------------------------------------------------------------- a month


def test_a_month_of_one_account_is_one_list(dated: Crowd, calendar: Calendar) -> None:
    """Pain 19. Without a filter for account and date nobody could make a monthly report, or reconcile one bank account.
    https://github.com/LerianStudio/midaz/issues/1973
    """
    days = ["2026-01-31T23:59:59", "2026-02-01T00:00:00", "2026-02-14T12:00:00", "2026-02-28T23:59:59", "2026-03-01"]
    for number, day in enumerate(days):
        calendar.turn_to(f"{day}+00:00" if "T" in day else f"{day}T00:00:00+00:00")
        for rail in ("bank-a", "bank-b"):
            body = {"account": "users:alice", "asset": USD, "amount": str(100 + number), "rail": rail,
                    "refs": {"external_ref": f"{rail}-{number}"}}  # fmt: skip
            dated.admin.done(f"{MAIN}/deposits", body)

    bank = {"account": "@external:bank-a", "asset": USD}
    pages = walk(dated.admin, "entries", 2, **bank, from_="2026-02-01T00:00:00Z", to="2026-03-01T00:00:00Z")
    february = [line for page in pages for line in page]
    assert [(line["refs"]["external_ref"], line["amount"]) for line in february] == [
        ("bank-a-1", "-101"), ("bank-a-2", "-102"), ("bank-a-3", "-103")
    ]  # fmt: skip
    opening = balance(dated.admin, **bank, recorded="2026-01-31T23:59:59.999999Z")
    closing = balance(dated.admin, **bank, recorded="2026-02-28T23:59:59.999999Z")
    assert (int(february[0]["before"]), int(february[-1]["after"])) == (opening, closing)
    assert opening + sum(int(line["amount"]) for line in february) == closing
    found = dated.admin.get(f"{MAIN}/transactions", reference="external_ref", value="bank-b-2").json()["items"]
    assert [one["time"][:10] for one in found] == ["2026-02-14"]


# ---------------------------------------------------------------- as of


def test_the_books_as_of_any_time_are_what_they_were(dated: Crowd, calendar: Calendar) -> None:
    """Pain 20. Balances at a point in time were wrong at the edges. https://github.com/formancehq/ledger/pull/1709
    https://github.com/formancehq/ledger/pull/1077 https://github.com/formancehq/ledger/pull/1014

    The model is the sum of the entries that had taken effect by then, over every edge of every event.
    """
    for number in range(5):
        calendar.turn_to(f"2026-01-0{number + 2}T00:00:00+00:00")
        dated.admin.done(f"{MAIN}/transfers", pay(10 + number))
        back = {"type": "transfer", "legs": [pay(1 + number)], "effective": f"2026-01-0{number + 1}T12:00:00Z"}
        dated.admin.done(f"{MAIN}/transactions", back)
    events = dated.admin.get(f"{MAIN}/events", limit=1_000).json()["items"]
    edges = {one[name] for one in events for name in ("time", "effective")}
    times = sorted(edges | {just_before(edge) for edge in edges} | {"2025-01-01T00:00:00Z", "2099-01-01T00:00:00Z"})
    for name, field in [("as_of", "effective"), ("recorded", "time")]:
        for time in times:
            expected = sum(
                int(entry["amount"])
                for one in events
                if one[field] <= padded(time)
                for entry in one["entries"]
                if entry["account"] == "users:alice"
            )
            assert balance(dated.admin, "users:alice", **{name: time}) == expected, (name, time)
            trial = dated.admin.get(f"{MAIN}/trial-balance", **{name: time}).json()
            row = [one for one in trial["rows"] if one["account"] == "users:alice"]
            assert trial["balanced"]
            assert sum(int(one["credit"]) - int(one["debit"]) for one in row) == expected, (name, time)


def just_before(time: str) -> str:
    moment = datetime.fromisoformat(time) - timedelta(microseconds=1)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def padded(time: str) -> str:
    """A time with its microseconds, so that texts compare as times do."""
    return time if "." in time else time.replace("Z", ".000000Z")


def test_a_time_with_another_zone_is_the_same_instant_and_one_without_is_refused(
    dated: Crowd, calendar: Calendar
) -> None:
    """Pain 20. A filter's zone was dropped, and the answer was hours off.
    https://github.com/formancehq/ledger/pull/1398
    """
    calendar.turn_to("2026-06-01T10:00:00+00:00")
    dated.admin.done(f"{MAIN}/transfers", pay(10))
    same = ["2026-06-01T09:59:59Z", "2026-06-01T11:59:59+02:00", "2026-06-01T04:59:59-05:00", "2026-06-01"]
    later = ["2026-06-01T10:00:01Z", "2026-06-01T12:00:01+02:00", "2026-06-01T05:00:01-05:00", "2026-06-02"]
    for name in ("as_of", "recorded"):
        assert {balance(dated.admin, "users:alice", **{name: time}) for time in same} == {100_000}
        assert {balance(dated.admin, "users:alice", **{name: time}) for time in later} == {99_990}
        for wrong in ("2026-06-01T10:00:00", "2026-06-31", "yesterday", "10:00", "1780308000", "2026-06-01 10:00Z+1"):
            answer = dated.admin.get(f"{MAIN}/balances", account="users:alice", **{name: wrong})
            assert answer.status_code in (400, 422), (name, wrong, answer.text)
    assert len(walk(dated.admin, "entries", 100, account="users:alice", from_=same[1])[0]) == 1
    assert len(walk(dated.admin, "entries", 100, account="users:alice", to=same[1])[0]) == 1
    assert walk(dated.admin, "entries", 100, account="users:alice", from_=later[1]) == [[]]


def test_before_there_was_anything_the_books_are_empty_and_no_error(dated: Crowd) -> None:
    """Pain 20. Where there was no metadata yet, a question about the past failed.
    https://github.com/formancehq/ledger/pull/1709
    """
    for name in ("as_of", "recorded"):
        long_ago = {name: "2001-01-01T00:00:00Z"}
        assert balance(dated.admin, "users:alice", **long_ago) == 0
        assert dated.admin.get(f"{MAIN}/trial-balance", **long_ago).json()["rows"] == []
    assert dated.admin.get(f"{MAIN}/accounts", as_of="2001-01-01T00:00:00Z").status_code == 200
    assert balance(dated.admin, "users:never") == 0
