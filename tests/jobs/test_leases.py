"""The leases of one process: trusted only while they surely hold, renewed, given back."""

from __future__ import annotations

from tallystick.clock import add_seconds
from tallystick.control.memory import MemoryControl
from tallystick.control.records import Lease
from tallystick.errors import Unavailable
from tallystick.jobs.leases import Leases
from tests.jobs.support import NOON, eventually


class Clocks:
    """The store's clock and the process's, which a test moves together or apart."""

    def __init__(self) -> None:
        self.store, self.own = 0.0, 1_000.0

    def now(self) -> str:
        return add_seconds(NOON, self.store)

    def monotonic(self) -> float:
        return self.own

    def pass_by(self, seconds: float) -> None:
        self.store += seconds
        self.own += seconds


class Moody(MemoryControl):
    """A store that does not always answer."""

    away = False

    def acquire(self, name: str, holder: str, seconds: float) -> Lease | None:
        if self.away:
            raise Unavailable(reason="it is away")
        return super().acquire(name, holder, seconds)


def make(clocks: Clocks, control: MemoryControl | None = None, holder: str = "a") -> Leases:
    return Leases(control or MemoryControl(clocks.now), holder, seconds=10, monotonic=clocks.monotonic)


def test_a_lease_is_taken_once_and_stays() -> None:
    leases = make(Clocks())
    first = leases.take("job:x:main")
    again = leases.take("job:x:main")
    assert first is not None
    assert again is not None
    assert (first[1], again[1]) == (True, False)
    assert again[0] is first[0]


def test_another_holder_waits_until_it_is_given_back() -> None:
    clocks = Clocks()
    control = MemoryControl(clocks.now)
    mine, yours = make(clocks, control), make(clocks, control, "b")
    taken = mine.take("job:x:main")
    assert taken is not None
    assert yours.take("job:x:main") is None
    mine.give_back(taken[0])
    found = yours.take("job:x:main")
    assert found is not None
    assert found[0].lease.token > taken[0].lease.token


def test_a_lease_is_not_trusted_as_long_as_it_lasts() -> None:
    clocks = Clocks()
    taken = make(clocks).take("job:x:main")
    assert taken is not None
    clocks.pass_by(8.9)
    assert taken[0].holds
    clocks.pass_by(0.2)
    assert not taken[0].holds


def test_a_process_that_was_suspended_does_not_trust_its_lease_whatever_the_store_says() -> None:
    clocks = Clocks()
    leases = make(clocks)
    taken = leases.take("job:x:main")
    assert taken is not None
    clocks.own += 60  # the store's clock stands: it would still call the lease held
    leases.renew()
    assert not taken[0].holds


def test_renewed_in_time_it_holds_on() -> None:
    clocks = Clocks()
    leases = make(clocks)
    taken = leases.take("job:x:main")
    assert taken is not None
    for _ in range(20):
        clocks.pass_by(leases.renew_seconds)
        leases.renew()
        assert taken[0].holds


def test_a_store_that_is_away_for_a_moment_costs_no_lease() -> None:
    clocks = Clocks()
    control = Moody(clocks.now)
    leases = make(clocks, control)
    taken = leases.take("job:x:main")
    assert taken is not None
    control.away = True
    clocks.pass_by(leases.renew_seconds)
    leases.renew()
    assert taken[0].holds
    control.away = False
    leases.renew()
    clocks.pass_by(8.9)
    assert taken[0].holds


def test_a_store_that_stays_away_costs_the_lease() -> None:
    clocks = Clocks()
    control = Moody(clocks.now)
    leases = make(clocks, control)
    taken = leases.take("job:x:main")
    assert taken is not None
    control.away = True
    for _ in range(3):
        clocks.pass_by(leases.renew_seconds)
        leases.renew()
    assert not taken[0].holds


def test_a_lease_that_another_has_is_lost_for_good() -> None:
    clocks = Clocks()
    control = MemoryControl(clocks.now)
    mine, yours = make(clocks, control), make(clocks, control, "b")
    taken = mine.take("job:x:main")
    assert taken is not None
    clocks.store += 11  # by the store's clock it has run out
    found = yours.take("job:x:main")
    assert found is not None
    mine.renew()
    assert not taken[0].holds
    yours.give_back(found[0])
    mine.renew()
    assert not taken[0].holds  # what happened in between is not known
    again = mine.take("job:x:main")
    assert again is not None
    assert again[1]


def test_what_was_given_back_is_not_renewed() -> None:
    clocks = Clocks()
    control = MemoryControl(clocks.now)
    mine = make(clocks, control)
    taken = mine.take("job:x:main")
    assert taken is not None
    mine.give_back(taken[0])
    mine.renew()
    assert make(clocks, control, "b").take("job:x:main") is not None


def test_at_the_end_all_are_given_back_but_those_in_use() -> None:
    clocks = Clocks()
    control = MemoryControl(clocks.now)
    mine = make(clocks, control)
    mine.take("job:x:main")
    mine.take("job:y:main")
    mine.give_all_back(but={"job:y:main"})
    yours = make(clocks, control, "b")
    assert yours.take("job:x:main") is not None
    assert yours.take("job:y:main") is None


def test_in_the_background_leases_are_renewed_until_it_ends() -> None:
    control = MemoryControl()
    leases = Leases(control, "a", seconds=2.0)
    taken = leases.take("job:x:main")
    assert taken is not None
    leases.start()
    begun = taken[0].lease.until
    eventually(lambda: taken[0].lease.until > add_seconds(begun, 0.5))
    assert taken[0].holds
    leases.stop()
    eventually(lambda: not taken[0].holds)
