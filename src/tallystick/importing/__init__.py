"""Bringing rows of other systems into a ledger.

A file of CSV or JSON lines is read row by row; a mapping says which command each row becomes, and the commands are
posted in batches. Keys come from the rows, so an import that was interrupted is simply run again: what was posted is
recognised and answered as replayed. A row that cannot be read is reported with its line, and the others go on.
"""

from tallystick.importing.importer import MAX_BATCH, MAX_PROBLEMS, ImportReport, Problem, import_file, import_stream
from tallystick.importing.mapping import Mapping, read_mapping
from tallystick.importing.rows import MAX_LINE_BYTES

__all__ = [
    "MAX_BATCH",
    "MAX_LINE_BYTES",
    "MAX_PROBLEMS",
    "ImportReport",
    "Mapping",
    "Problem",
    "import_file",
    "import_stream",
    "read_mapping",
]
