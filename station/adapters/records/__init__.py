"""The station's durable records in one SQLite file: the only package that knows SQLAlchemy and Alembic.

`Database` is the `Recorder` and keeps the lots; `upgrade` and `check` look after the schema; the reports read. Each report
opens the file by itself and cannot write. `docs/records.md` describes the tables and what a spreadsheet sees.
"""

from __future__ import annotations

from station.adapters.records.board_report import BoardHistory, board_histories, board_report, pending_report
from station.adapters.records.boards import BoardEvent, BoardEventRow
from station.adapters.records.database import Database, new_id, utc_now
from station.adapters.records.engine import make_engine
from station.adapters.records.lots import LotRequest, RecipeRow, RejectReason, RejectRow
from station.adapters.records.migrate import check, require_file, upgrade
from station.adapters.records.rendering import render
from station.adapters.records.report import YIELD_FORMULA, Report, jobs_report, yield_report
from station.adapters.records.visits import VisitRow

__all__ = [
    "YIELD_FORMULA",
    "BoardEvent",
    "BoardEventRow",
    "BoardHistory",
    "Database",
    "LotRequest",
    "RecipeRow",
    "RejectReason",
    "RejectRow",
    "Report",
    "VisitRow",
    "board_histories",
    "board_report",
    "check",
    "jobs_report",
    "make_engine",
    "new_id",
    "pending_report",
    "render",
    "require_file",
    "upgrade",
    "utc_now",
    "yield_report",
]
