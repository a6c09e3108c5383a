"""What other writers did to a ledger since a head: read once the ledger is claimed, to bring a book up to date."""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.events import Event
from tallystick.journal import decode_event
from tallystick.kernel import Balance
from tallystick.stores import chunks
from tallystick.stores.base import PART_BITS, Changes, Head, NumberOf, key_number
from tallystick.stores.postgres.connections import Link
from tallystick.stores.postgres.reading import SQL, Reading, decode_object
from tallystick.stores.postgres.standing import Standing
from tallystick.stores.postgres.wire import Trip, int4, int8

EVENTS_READ = 1_024
"""Up to so many events of others are read to learn what changed."""


class CatchingUp(Reading):
    """The part of the store that reads what changed."""

    def _changes(
        self, connection: Link, name: str, ledger: int, known: Head, head: Head, number_of: NumberOf | None = None
    ) -> Changes | None:
        """What changed between these heads: a few events are read, of many only what they led to. None if the events do
        not pass by the first."""
        count = head.seq - known.seq
        trip = Trip(connection)
        trip.add("hash_at", int4(ledger), int8(known.seq))
        trip.add("objects_since", int4(ledger), int8(known.seq))
        if count <= EVENTS_READ:
            trip.add("events_since", int4(ledger), int8(known.seq))
        hashes, rows, *read = trip.send()
        if known.seq and hashes != [(known.hash,)]:
            return None
        objects = [(kind, id, decode_object(kind, body)) for kind, id, body in rows]
        keys: list[int] | None = None
        if read:
            events = [event for row in read[0] for event in map(decode_event, chunks.unpack(name, *row))]
            if [event.seq for event in events] == list(range(known.seq, head.seq)):
                keys = [key_number(event.source, event.idem) for event in events]
                balances = self._changed_by(connection, ledger, events, number_of or _must_be_asked_for)
        if keys is None:  # they are too many, or lie in the archive by now
            balances = self._changed_since(connection, ledger, known.seq, self._standing(connection, ledger))
        return Changes(head, balances, objects, keys)

    def _changed_by(
        self, connection: Link, ledger: int, events: Sequence[Event], number_of: NumberOf
    ) -> list[tuple[str, str, str, Balance]]:
        """The balances that these events changed, but for those that nobody needs to learn of."""
        last = {(entry.account, entry.asset, entry.bucket): entry for event in events for entry in event.entries}
        found = {place: number_of(*place) for place in last}
        if accounts := sorted({place[0] for place, number in found.items() if number is None}):
            numbers = self._known(ledger)
            for stored, number, *place in self._rows(
                connection, "balances_by_account", ledger=ledger, accounts=accounts
            ):
                numbers.know(number, stored)
                if (key := (place[0], place[1], place[2])) in found:
                    found[key] = number
        return [
            (*place, Balance(number, last[place].after, last[place].version))
            for place, number in found.items()
            if number
        ]

    def _changed_since(
        self, connection: Link, ledger: int, first: int, standing: Standing
    ) -> list[tuple[str, str, str, Balance]]:
        """The balances that were posted to from an event on."""
        periods, parts = standing.places(PART_BITS, first, standing.head.seq)
        asked = {"periods": periods, "parts": parts, "first": first}
        numbers = self._known(ledger)
        balances = []
        self._by_index(connection)
        for account, asset, bucket, stored, number, after, version in self._rows(
            connection, "changed_balances", ledger=ledger, **asked
        ):
            numbers.know(number, stored)
            balances.append((account, asset, bucket, Balance(number, after, version)))
        connection.execute(SQL["as_usual"])
        return balances


def _must_be_asked_for(account: str, asset: str, bucket: str) -> None:
    """The number of every balance, where nothing is known."""
