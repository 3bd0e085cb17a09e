"""What this room raises.

Exception
|- StoreError       the store's folder or its files: missing, not ours, not writable, disk full
|  `- UnreachableError   storage that does not answer, or gives no rights
|- QueryError       a refused, wrong or too expensive SQL statement
|- TableError       a leaderboard or comparison that cannot be made, or would average what must not be
|- FigureError      a figure that cannot be drawn without misleading its reader, or not be written
|- ExportError      an export of nothing, to nowhere, or by a package that is not installed
`- SelectionError   no candidate can be selected
"""


class StoreError(Exception):
    """A store that cannot be opened, read or written; the message says what is allowed."""


class UnreachableError(StoreError):
    """Storage that cannot be reached; the message says what it answered."""


class QueryError(Exception):
    """A statement that was refused, is wrong, or ran into its limits."""


class TableError(Exception):
    """A table or comparison that cannot be made without misleading its reader."""


class FigureError(Exception):
    """A figure that cannot be made; the message says what is allowed."""


class ExportError(Exception):
    """An export that cannot be made; the message says what is allowed."""


class SelectionError(Exception):
    """A choice between candidates none of which is complete."""
