"""The routes: one file for each group of operations, and here all of them together."""

from tallystick.service.operations import Group, Operation
from tallystick.service.routes.accounts import ACCOUNTS
from tallystick.service.routes.balances import BALANCES
from tallystick.service.routes.bets import BETS
from tallystick.service.routes.bulk import BULK
from tallystick.service.routes.cells import CELLS
from tallystick.service.routes.clearing import CLEARINGS
from tallystick.service.routes.commitments import COMMITMENTS
from tallystick.service.routes.documentation import DOCUMENTATION
from tallystick.service.routes.endpoints import ENDPOINTS
from tallystick.service.routes.events import EVENTS
from tallystick.service.routes.evidence import EVIDENCE
from tallystick.service.routes.extensions import EXTENSIONS
from tallystick.service.routes.holds import HOLDS
from tallystick.service.routes.jobs import JOBS
from tallystick.service.routes.keys import KEYS
from tallystick.service.routes.ledger_service import LEDGER_SERVICE
from tallystick.service.routes.ledgers import LEDGERS
from tallystick.service.routes.public import PUBLIC
from tallystick.service.routes.reserves import RESERVES
from tallystick.service.routes.rules import RULES
from tallystick.service.routes.short_forms import SHORT_FORMS
from tallystick.service.routes.stakes import STAKES
from tallystick.service.routes.supply import SUPPLY
from tallystick.service.routes.transactions import TRANSACTIONS

GROUPS: tuple[Group, ...] = (
    LEDGERS,
    ACCOUNTS,
    BALANCES,
    TRANSACTIONS,
    BULK,
    EVENTS,
    HOLDS,
    STAKES,
    BETS,
    COMMITMENTS,
    SUPPLY,
    CELLS,
    CLEARINGS,
    RULES,
    RESERVES,
    SHORT_FORMS,
    LEDGER_SERVICE,
    EVIDENCE,
    EXTENSIONS,
    ENDPOINTS,
    JOBS,
    KEYS,
    PUBLIC,
    DOCUMENTATION,
)

OPERATIONS: tuple[Operation, ...] = tuple(operation for group in GROUPS for operation in group.operations)
"""Everything that can be asked of the service."""
