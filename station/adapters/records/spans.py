"""Spans of numbers in a table with the columns `pool`, `first` and `last`: both ends included, none overlapping another.

Every function takes the connection of a transaction that somebody else begins and commits.
"""

from __future__ import annotations

from sqlalchemy import Connection, Table, delete, insert, select


def put_span(connection: Connection, table: Table, pool: str, first: int, last: int) -> None:
    """Add numbers that the table does not hold; spans that touch become one."""
    before = connection.execute(select(table.c.first).where(table.c.pool == pool, table.c.last == first - 1)).scalar()
    after = connection.execute(select(table.c.last).where(table.c.pool == pool, table.c.first == last + 1)).scalar()
    low, high = first if before is None else before, last if after is None else after
    connection.execute(delete(table).where(table.c.pool == pool, table.c.first.in_((low, last + 1))))
    connection.execute(insert(table).values(pool=pool, first=low, last=high))


def take_span(connection: Connection, table: Table, pool: str, first: int, last: int) -> list[tuple[int, int]]:
    """Take out whatever the table holds of these numbers; return it, in order."""
    taken: list[tuple[int, int]] = []
    for low, high in covered(connection, table, pool, first, last):
        connection.execute(delete(table).where(table.c.pool == pool, table.c.first == low))
        rest = [(low, first - 1), (last + 1, high)]
        for piece in rest:
            if piece[0] <= piece[1]:
                connection.execute(insert(table).values(pool=pool, first=piece[0], last=piece[1]))
        taken.append((max(low, first), min(high, last)))
    return taken


def covered(connection: Connection, table: Table, pool: str, first: int, last: int) -> list[tuple[int, int]]:
    """Return the whole spans that hold any of these numbers, in order."""
    touching = (table.c.pool == pool, table.c.first <= last, table.c.last >= first)
    found = connection.execute(select(table.c.first, table.c.last).where(*touching).order_by(table.c.first))
    return [(int(row[0]), int(row[1])) for row in found]
