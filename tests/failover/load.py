"""Threads that post to one ledger without end, through two databases as two processes would, and what they are told."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from random import Random

import tallystick
from tallystick import Ledger, Posted
from tallystick.commands import Command, Hold, Leg, Post, Transfer
from tallystick.errors import Unavailable
from tests.support.processes import wait_until

USD = "USD/2"
PEOPLE = [f"users:{number}" for number in range(50)]
PROCESSES = 2
THREADS = 6
LONG = 2_100
"""A batch of so many commands is stored while it is decided, by COPY."""
END_SECONDS = 60
BACK_SECONDS = 30
"""As soon as this everybody must have been answered again, counted from when there is a server again."""
ASK_AGAIN_SECONDS = 0.02
ASKED_AGAIN = 60
"""So many keys are asked with once more in the end."""


class Load:
    """Posts until it is stopped. Whoever is told Unavailable asks again, with the same keys, until it is answered."""

    def __init__(self, url: str, seed: int) -> None:
        self.url = url
        self.seed = seed
        self.commands: dict[str, Command] = {}
        self.answers: dict[str, Posted] = {}
        self.unavailable: list[Unavailable] = []
        self.surprises: list[BaseException] = []
        self.calls = [0] * THREADS
        self._ending = threading.Event()
        self._databases = [tallystick.open(url) for _ in range(PROCESSES)]
        legs = [Leg("@issuance", person, USD, 10_000_000) for person in PEOPLE]
        self._post(
            self._databases[0].ledger("main"),
            [Post(key=f"mint {leg.to_account}", type="mint", legs=(leg,)) for leg in legs],
            "a",
        )
        self._threads = [threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(THREADS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        for database in self._databases:
            database.close()

    def wait_for(self, calls: int) -> None:
        """Wait until each thread has been answered so many times more."""
        before = list(self.calls)
        wait_until(
            lambda: self.surprises or all(now - then >= calls for now, then in zip(self.calls, before, strict=True)),
            BACK_SECONDS,
            f"{calls} more answers to each; told meanwhile: {self.unavailable[-1:]}",
        )
        assert not self.surprises, self.surprises

    def stop(self) -> None:
        """Let everybody be answered once more, and end."""
        self._ending.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(END_SECONDS)
        assert not any(thread.is_alive() for thread in self._threads), f"no answer: {self.unavailable[-1:]}"
        assert not self.surprises, self.surprises

    # ------------------------------------------------------------ one thread

    def _work(self, thread: int) -> None:
        random = Random(f"{self.seed} {thread}")
        ledger = self._databases[thread % PROCESSES].ledger("main")
        try:
            while not self._ending.is_set():
                self._act(ledger, random, f"{thread}.{self.calls[thread]}")
                self.calls[thread] += 1
        except BaseException as error:
            self.surprises.append(error)

    def _act(self, ledger: Ledger, random: Random, name: str) -> None:
        """One call: a single command, or a batch of either kind; its size stands in its keys."""
        kind, size = random.choices([("s", 1), ("a", 3), ("i", 10), ("i", 200), ("i", LONG)], [700, 100, 100, 20, 1])[0]
        self._post(ledger, [self._command(random, f"{name} {kind} {size} {index}") for index in range(size)], kind)

    def _command(self, random: Random, key: str) -> Command:
        payer, payee = random.sample(PEOPLE, 2)
        if random.random() < 0.1:
            return Hold(key=key, account=payer, asset=USD, amount=1 + random.randrange(9), refs={"order": key})
        return Transfer(key=key, from_account=payer, to_account=payee, asset=USD, amount=1 + random.randrange(9))

    def _post(self, ledger: Ledger, commands: list[Command], kind: str) -> None:
        self.commands.update((command.key, command) for command in commands)
        while True:
            try:
                answers = [ledger.post(commands[0])] if kind == "s" else ledger.post_many(commands, atomic=kind == "a")
            except Unavailable as error:
                self.unavailable.append(error)
                self._ending.wait(ASK_AGAIN_SECONDS)
                continue
            break
        for command, answer in zip(commands, answers, strict=True):
            assert isinstance(answer, Posted), answer
            self.answers[command.key] = answer


def check(load: Load) -> None:
    """What was acknowledged is there as it was answered, what was asked is there once, and it all adds up."""
    with tallystick.open(load.url) as database:
        ledger = database.ledger("main")
        events = {}
        while page := ledger.events(after=len(events) - 1, limit=10_000):
            events.update((event.seq, event) for event in page)
        keys = Counter(event.key for event in events.values())
        assert [key for key, times in keys.items() if times > 1] == [], "a key was used twice"
        found = {event.key: (event.id, event.hash) for event in events.values() if event.seq}
        told = {key: (answer.id, answer.hash) for key, answer in load.answers.items()}
        assert found == told, "everybody was answered in the end, and by what is in the journal"
        check_batches(list(found))
        for key in Random(load.seed).sample(sorted(told), min(ASKED_AGAIN, len(told))):
            first, again = load.answers[key], ledger.post(load.commands[key])
            assert (again.id, again.hash, again.time, again.replayed) == (first.id, first.hash, first.time, True)
        report = ledger.replay()
        assert report.ok, report.findings
        assert report.events == len(events)
        assert ledger.trial_balance().is_balanced


def check_batches(keys: list[str]) -> None:
    """Of every batch all is there, and in one piece if it was atomic."""
    batches: dict[str, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        name, _, _ = key.rpartition(" ")
        if name.split(" ")[1:2] == ["a"]:
            batches[name].append(place)
    for name, places in batches.items():
        assert places == list(range(places[0], places[0] + int(name.rpartition(" ")[2]))), f"{name} was torn apart"
