"""Compute billing on the Azure LLM inference traces: freeze an upper bound, capture what was used, give back the rest.

A price is a whole number of minor units of ``CREDIT/6``, millionths of a credit, per token: 3 a token is 3 credits per
million tokens. So the price of a request needs no rounding. The fee is rounded down, and the provider gets all that
is not fee: the two always add up to the price.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from posting import BATCH, DATA, SOURCE, Amounts, Check, Progress, post_all, slices

from tallystick import Ledger
from tallystick.commands import Capture, Hold, Leg, Post, Release, Split

ASSET = "CREDIT/6"
FEE_BASIS_POINTS = 250
CUSTOMERS_PER_SERVICE = 2_000
DEPOSIT = 1_000_000
"""What each customer pays in beforehand, in minor units: one credit."""


class Tariff(NamedTuple):
    """What a token costs in minor units, and how many tokens a request may generate at most."""

    context: int
    generated: int
    most_generated: int


TARIFFS = {"code": Tariff(3, 15, 2_048), "conv": Tariff(1, 4, 1_024)}
"""The tariff of each service. The traces name no prices; these are the demo's."""

PUBLISHED = {"code": (8_819, 18_059_974, 245_896), "conv": (19_366, 22_361_870, 4_088_665)}
"""Requests, context tokens and generated tokens of each trace, as published."""


class Request(NamedTuple):
    """One request of a trace. The traces name no customers: requests are dealt to them in turn."""

    service: str
    number: int
    time: str
    context: int
    generated: int

    @property
    def id(self) -> str:
        return f"{self.service}-{self.number}"

    @property
    def customer(self) -> str:
        return f"customers:{self.service}:{self.number % CUSTOMERS_PER_SERVICE:04}"

    @property
    def provider(self) -> str:
        return f"providers:{self.service}"

    @property
    def bound(self) -> int:
        """The most that the request can cost."""
        tariff = TARIFFS[self.service]
        return self.context * tariff.context + tariff.most_generated * tariff.generated

    @property
    def price(self) -> int:
        """What the request did cost."""
        tariff = TARIFFS[self.service]
        return self.context * tariff.context + self.generated * tariff.generated

    @property
    def fee(self) -> int:
        """The ledger's part of the price, rounded down."""
        return self.price * FEE_BASIS_POINTS // 10_000


def read_requests() -> list[Request]:
    """Every request of both traces, in the order of the records."""
    return [request for service in TARIFFS for request in _read_trace(service)]


def _read_trace(service: str) -> Iterator[Request]:
    path = DATA / "azure-llm" / f"AzureLLMInferenceTrace_{service}.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines)):
            yield Request(service, number, row["TIMESTAMP"], int(row["ContextTokens"]), int(row["GeneratedTokens"]))


# ---------------------------------------------------------------- posting


def post_requests(ledger: Ledger, requests: Sequence[Request], progress: Progress = lambda done: None) -> None:
    """Fund the customers, then freeze, capture and release for every request."""
    post_all(ledger, [_deposit(customer) for customer in dict.fromkeys(request.customer for request in requests)])
    for part in slices(requests, BATCH // 2):
        holds = post_all(ledger, [_hold(request) for request in part])
        ends = [
            end for request, hold in zip(part, holds, strict=True) for end in _capture_and_release(request, hold.id)
        ]
        post_all(ledger, ends)
        progress(len(part))


def _deposit(customer: str) -> Post:
    return Post(
        type="deposit",
        legs=(Leg("@external:bank", customer, ASSET, DEPOSIT),),
        refs={"external_ref": f"top-up {customer}"},
        key=f"deposit {customer}",
        source=SOURCE,
    )


def _hold(request: Request) -> Hold:
    return Hold(
        account=request.customer,
        asset=ASSET,
        amount=request.bound,
        expires_in_seconds=3_600,
        refs={"order": request.id},
        key=f"{request.id} freeze",
        source=SOURCE,
    )


def _capture_and_release(request: Request, hold: str) -> tuple[Any, Any]:
    # The smallest requests cost so little that nothing is left of the fee once it is rounded down.
    parts = (Split(request.provider, request.price - request.fee), Split("@fees", request.fee, "fees"))
    capture = Capture(
        hold=hold,
        splits=tuple(part for part in parts if part.amount),
        final=False,
        reason=f"{request.context} + {request.generated} tokens at {request.time}",
        refs={"order": request.id},
        key=f"{request.id} capture",
        source=SOURCE,
    )
    return capture, Release(hold=hold, refs={"order": request.id}, key=f"{request.id} release", source=SOURCE)


# ---------------------------------------------------------------- what must come out


def expected_amounts(requests: Sequence[Request]) -> Amounts:
    """Where plain arithmetic over the trace puts every account."""
    expected = {(request.customer, ASSET): DEPOSIT for request in requests}
    expected["@external:bank", ASSET] = -DEPOSIT * len(expected)
    for request in requests:
        _add(expected, request.customer, -request.price)
        _add(expected, request.provider, request.price - request.fee)
        _add(expected, "@fees", request.fee)
    return expected


def _add(amounts: Amounts, account: str, amount: int) -> None:
    amounts[account, ASSET] = amounts.get((account, ASSET), 0) + amount


def check_records(requests: Sequence[Request]) -> list[Check]:
    """The traces against their published facts."""
    checks = []
    for service, (count, context, generated) in PUBLISHED.items():
        own = [request for request in requests if request.service == service]
        checks += [
            Check(f"{service}: requests", count, len(own)),
            Check(f"{service}: context tokens", context, sum(request.context for request in own)),
            Check(f"{service}: generated tokens", generated, sum(request.generated for request in own)),
        ]
    return checks


def check_revenue(requests: Sequence[Request], amounts: Amounts) -> list[Check]:
    """What each provider and the fee pool earned against the token totals times the tariff."""
    due = sum(
        sum(request.context for request in requests if request.service == service) * tariff.context
        + sum(request.generated for request in requests if request.service == service) * tariff.generated
        for service, tariff in TARIFFS.items()
    )
    earned = amounts.get(("@fees", ASSET), 0)
    earned += sum(amounts.get((f"providers:{service}", ASSET), 0) for service in TARIFFS)
    return [Check("earned by providers and fees = tokens x tariff", due, earned)]
