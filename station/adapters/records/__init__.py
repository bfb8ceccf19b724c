"""The station's durable records in one SQLite file: the only package that knows SQLAlchemy and Alembic.

`Database` is the `Recorder` and keeps the lots; `upgrade` and `check` look after the schema; the reports read. Each report
opens the file by itself and cannot write. `docs/records.md` describes the tables and what a spreadsheet sees.
"""

from __future__ import annotations

from station.adapters.records.after_restore import Burned, burn_since_backup, part_spans
from station.adapters.records.board_life import board_lives
from station.adapters.records.board_report import BoardHistory, board_histories, board_report, pending_report
from station.adapters.records.boards import BoardEvent, BoardEventRow
from station.adapters.records.bundles import (
    AFTER_WITHDRAWAL,
    BundleEvent,
    BundleRow,
    BundleState,
    KeptBundle,
    Saying,
)
from station.adapters.records.copying import (
    Contents,
    JobMark,
    KeptJob,
    as_json,
    copy_records,
    examine,
    from_json,
    job_marks,
    kept_jobs,
    under_way,
)
from station.adapters.records.database import Database, new_id, utc_now
from station.adapters.records.engine import make_engine
from station.adapters.records.high_water import NAME as HIGH_WATER
from station.adapters.records.labels import LabelBook, LabelState, WantedLabel, give_up_labels, labels_report
from station.adapters.records.layouts import LearnedLayout
from station.adapters.records.lock import StationLock
from station.adapters.records.looking import database_path, last_failed_transcripts, last_jobs, require_usable
from station.adapters.records.lots import FirmwareRow, LotRequest, RecipeRow, RejectReason, RejectRow
from station.adapters.records.merging import Merged, merge_jobs
from station.adapters.records.migrate import check, head, knows, require_file, upgrade
from station.adapters.records.number_report import free_numbers, number_events_report, numbers_report, ranges_report
from station.adapters.records.numbers import Span
from station.adapters.records.rendering import render
from station.adapters.records.report import YIELD_FORMULA, Report, jobs_report, yield_report
from station.adapters.records.shelf import Shelf
from station.adapters.records.slot_health import SlotHealth, slots_health
from station.adapters.records.successions import PendingChoice, Succeeded
from station.adapters.records.visits import VisitRow

__all__ = [
    "AFTER_WITHDRAWAL",
    "HIGH_WATER",
    "YIELD_FORMULA",
    "BoardEvent",
    "BoardEventRow",
    "BoardHistory",
    "BundleEvent",
    "BundleRow",
    "BundleState",
    "Burned",
    "Contents",
    "Database",
    "FirmwareRow",
    "JobMark",
    "KeptBundle",
    "KeptJob",
    "LabelBook",
    "LabelState",
    "LearnedLayout",
    "LotRequest",
    "Merged",
    "PendingChoice",
    "RecipeRow",
    "RejectReason",
    "RejectRow",
    "Report",
    "Saying",
    "Shelf",
    "SlotHealth",
    "Span",
    "StationLock",
    "Succeeded",
    "VisitRow",
    "WantedLabel",
    "as_json",
    "board_histories",
    "board_lives",
    "board_report",
    "burn_since_backup",
    "check",
    "copy_records",
    "database_path",
    "examine",
    "free_numbers",
    "from_json",
    "give_up_labels",
    "head",
    "job_marks",
    "jobs_report",
    "kept_jobs",
    "knows",
    "labels_report",
    "last_failed_transcripts",
    "last_jobs",
    "make_engine",
    "merge_jobs",
    "new_id",
    "number_events_report",
    "numbers_report",
    "part_spans",
    "pending_report",
    "ranges_report",
    "render",
    "require_file",
    "require_usable",
    "slots_health",
    "under_way",
    "upgrade",
    "utc_now",
    "yield_report",
]
