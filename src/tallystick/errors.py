"""Every error that Tallystick can give, in one tree.

    TallystickError
    ├── Refusal                 a rule was broken: nothing changed, the idempotency key is still free
    │   ├── InvalidInput ...    the request itself is wrong
    │   ├── InsufficientFunds ..the books do not allow it now
    │   └── ...
    └── Fault                   a promise could not be kept: storage, integrity, capacity
        ├── Unavailable         (retryable)
        ├── Overloaded          (retryable)
        └── LedgerCorrupt ...

A refusal is a *value* in a batch's results and is raised by the calls that post one command. The first line of a
class's docstring is its message; the names in braces are keys of ``data``. ``code`` is stable for ever.
"""

from __future__ import annotations

from typing import Any, ClassVar


class TallystickError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, **data: Any) -> None:
        self.data = data
        super().__init__(self._message())

    def _message(self) -> str:
        first_line = (type(self).__doc__ or "").strip().split("\n", 1)[0]
        return first_line.format_map(_Blank(self.data))

    def to_dict(self) -> dict[str, Any]:
        """The error as plain data: ``{"code", "message", "retryable", ...data}``."""
        return {"code": self.code, "message": str(self), "retryable": self.retryable, **self.data}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TallystickError) and type(self) is type(other) and self.data == other.data

    def __hash__(self) -> int:
        return hash((type(self), str(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.data)


class _Blank(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


def _rebuild(kind: type[TallystickError], data: dict[str, Any]) -> TallystickError:
    return kind(**data)


# ---------------------------------------------------------------- refusals: the request


class Refusal(TallystickError):
    """The ledger refused the command."""

    code = "refused"


class InvalidInput(Refusal):
    """{path}: {problem}"""

    code = "invalid_input"


class AmountOutOfRange(Refusal):
    """{path}: {amount} is outside the range of an amount, which is 1 to 9223372036854775807 minor units"""

    code = "amount_out_of_range"


class BalanceOverflow(Refusal):
    """the {bucket} balance of {account} in {asset} would leave the range of ±9223372036854775807"""

    code = "balance_overflow"


class ScaleMismatch(Refusal):
    """{asset} does not match the ledger's {expected}: one code has one scale"""

    code = "scale_mismatch"


class SelfTransfer(Refusal):
    """{account} cannot pay itself"""

    code = "self_transfer"


class EmptyTransaction(Refusal):
    """a transaction needs at least one leg"""

    code = "empty_transaction"


class Unbalanced(Refusal):
    """the changes in {asset} add up to {actual}, not to {expected}"""

    code = "unbalanced"


class MoveNotAllowed(Refusal):
    """{type} does not move value from {from_account} ({from_bucket}) to {to_account} ({to_bucket})"""

    code = "move_not_allowed"


class ReferenceRequired(Refusal):
    """{type} needs one of these references: {references}"""

    code = "reference_required"


class CardNumber(Refusal):
    """{path} holds what looks like a card number; the ledger keeps none"""

    code = "card_number"


class IdempotencyConflict(Refusal):
    """the key {key!r} was used for another request, {transaction}"""

    code = "idempotency_conflict"


# ---------------------------------------------------------------- refusals: who asks


class Unauthenticated(Refusal):
    """who asks is not known: {problem}"""

    code = "unauthenticated"


class Forbidden(Refusal):
    """this key does not allow it: {problem}"""

    code = "forbidden"


class MandateExceeded(Refusal):
    """the mandate allows {limit}: {asked} was asked for, {left} is left until {resets}"""

    code = "mandate_exceeded"


# ---------------------------------------------------------------- refusals: things that are not there


class NotFound(Refusal):
    """there is no {what}"""

    code = "not_found"


class AccountNotFound(Refusal):
    """{account} is not open, and this ledger opens no account on first use"""

    code = "account_not_found"


class MemberNotFound(Refusal):
    """{account} is not a member of this cell"""

    code = "member_not_found"


class AssetNotFound(Refusal):
    """{asset} is not defined, and this ledger defines no asset on first use"""

    code = "asset_not_found"


class TypeNotFound(Refusal):
    """{type} is not a transaction type of this ledger"""

    code = "type_not_found"


class HoldNotFound(Refusal):
    """there is no {kind} {id}"""

    code = "hold_not_found"


class TransactionNotFound(Refusal):
    """there is no transaction {transaction}"""

    code = "transaction_not_found"


# ---------------------------------------------------------------- refusals: the books


class InsufficientFunds(Refusal):
    """{account} has {balance} {asset} in {bucket}: {change} would take it below {floor}"""

    code = "insufficient_funds"


class FloorViolation(Refusal):
    """{account} would stand at {balance} {asset}, below its limit of {limit}"""

    code = "floor_violation"


class EscrowViolation(Refusal):
    """{account} would have {available} {asset} after its reserves, below its limit of {limit}"""

    code = "escrow_violation"


class BackdatedOverdraft(Refusal):
    """{account} would have stood at {balance} {asset} after {effective}, below {floor}"""

    code = "backdated_overdraft"


class CeilingExceeded(Refusal):
    """{account} would stand at {balance} {asset}, above its ceiling of {ceiling}"""

    code = "ceiling_exceeded"


class ConditionFailed(Refusal):
    """{account} {asset} {bucket}: {condition} {expected} was asked for, {actual} was found"""

    code = "condition_failed"


class AccountExists(Refusal):
    """{account} is already open"""

    code = "account_exists"


class AccountFrozen(Refusal):
    """{account} is frozen: it may be paid but cannot pay"""

    code = "account_frozen"


class AccountNotActive(Refusal):
    """{account} is {status}"""

    code = "account_not_active"


class AccountNotEmpty(Refusal):
    """{account} still has {balance} {asset} in {bucket}"""

    code = "account_not_empty"


class LimitOutOfBounds(Refusal):
    """a limit of {limit} is outside {min} to {max}"""

    code = "limit_out_of_bounds"


class NegativeReserve(Refusal):
    """the reserve of {account} would be {reserve}"""

    code = "negative_reserve"


class CommitmentsDisabled(Refusal):
    """this ledger's policy allows no commitments"""

    code = "commitments_disabled"


class HoldNotOpen(Refusal):
    """{kind} {id} is {state}"""

    code = "hold_not_open"


class HoldExpired(Refusal):
    """{kind} {id} expired at {expires}"""

    code = "hold_expired"


class HoldNotExpired(Refusal):
    """{kind} {id} does not expire before {expires}"""

    code = "hold_not_expired"


class OverCapture(Refusal):
    """{kind} {id} keeps {remaining}, {amount} was asked for"""

    code = "over_capture"


class NotReversible(Refusal):
    """{transaction} is a {type}, which is not undone by a reversal"""

    code = "not_reversible"


class AlreadyReversed(Refusal):
    """{transaction} has only {remaining} {asset} left to reverse on {account}"""

    code = "already_reversed"


class ChargeNotOpen(Refusal):
    """the charge {charge} is {state}"""

    code = "charge_not_open"


class PeriodClosed(Refusal):
    """{effective} lies in a period that was closed up to {closed}"""

    code = "period_closed"


class EffectiveInFuture(Refusal):
    """{effective} is later than now, {now}"""

    code = "effective_in_future"


class EventTooLarge(Refusal):
    """the event would take {size} bytes, the limit is {limit}"""

    code = "event_too_large"


class BatchAborted(Refusal):
    """nothing was posted, because command {index} of the batch was refused: {reason}"""

    code = "batch_aborted"


# ---------------------------------------------------------------- faults


class Fault(TallystickError):
    """Tallystick could not keep a promise."""

    code = "fault"


class Unavailable(Fault):
    """the store did not answer: {reason}"""

    code = "unavailable"
    retryable = True


class Overloaded(Fault):
    """{queued} commands are waiting already, the limit is {limit}: try again in a moment"""

    code = "overloaded"
    retryable = True


class RateLimited(Fault):
    """too many requests: try again in {retry_after_seconds} seconds"""

    code = "rate_limited"
    retryable = True


class LedgerLocked(Fault):
    """{path} is being written by another process ({holder}): one process at a time may write a ledger file"""

    code = "ledger_locked"
    retryable = True


class LedgerCorrupt(Fault):
    """{where}: {problem}. Nothing was changed; restore the file from a copy, or export what can still be read"""

    code = "ledger_corrupt"


class Archived(Fault):
    """events {first} to {last} of {ledger} were archived at {archived} to {path} (SHA-256 {sha256}), and {problem}"""

    code = "archived"


class LedgerNotFound(Fault):
    """there is no ledger at {path}"""

    code = "ledger_not_found"


class NotALedger(Fault):
    """{path} is not a Tallystick file: {problem}"""

    code = "not_a_ledger"


class SchemaMismatch(Fault):
    """{url} cannot be used as it is: {problem}. `tally migrate --plan` shows what would be done about it"""

    code = "schema_mismatch"


class NotPermitted(Fault):
    """{url} does not allow it: {reason}"""

    code = "not_permitted"


class Behind(Fault):
    """{ledger} stands at event {stands} here, and event {needed} did not come within {seconds} seconds"""

    code = "behind"
    retryable = True


class ProofInvalid(Fault):
    """the proof does not hold: {problem}"""

    code = "proof_invalid"


class NoteInvalid(Fault):
    """the note cannot be trusted: {problem}"""

    code = "note_invalid"


class LogNotFound(Fault):
    """no log lives in {path}"""

    code = "log_not_found"


class LogForked(Fault):
    """{origin} does not extend what was published: {problem}"""

    code = "log_forked"


class KeyFileUnsafe(Fault):
    """the key file {path} is not used: {problem}"""

    code = "key_file_unsafe"


class ReadOnly(Fault):
    """{path} was opened for reading only"""

    code = "read_only"


class Closed(Fault):
    """the ledger has been closed"""

    code = "closed"
