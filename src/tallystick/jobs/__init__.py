"""What a service does by itself: expiry, checkpoints, snapshots, partitions, reconciliation, deliveries, pruning.

Any number of processes may run the same jobs over the same ledgers. Each pair of a job and a ledger has one leader at a
time, who holds a lease in the control store; when it dies another one takes over. No job does harm if it runs twice:
leases keep work from being done twice, the ledger's own rules keep it from counting twice.
"""

from tallystick.jobs.job import Alert, Context, Interrupted, Job, LeaseLost, Outcome, StandingJob, Stopped
from tallystick.jobs.runner import Runner
from tallystick.jobs.standard import JOB_NAMES, Options, standard_jobs

__all__ = [
    "JOB_NAMES",
    "Alert",
    "Context",
    "Interrupted",
    "Job",
    "LeaseLost",
    "Options",
    "Outcome",
    "Runner",
    "StandingJob",
    "Stopped",
    "standard_jobs",
]
