"""The list of cases: what must be shown on a real kernel, each with its promise. The report holds the guest against it."""

from __future__ import annotations

from collections.abc import Mapping

CASES: Mapping[str, str] = {
    "installed_idle": "the package is installed by apt on a fresh Debian; the station runs as its own user and answers",
    "first_plug_after_start": "usbserial was not loaded when the unit started; the first board plugged in later is made",
    "control_stuck": "an adapter whose control endpoint never answers costs its slot only: all others pass",
    "deaf_after_epipe": "an adapter that goes deaf after EPIPE costs its slot only: all others pass",
    "output_stuck": "an adapter whose output never drains costs its slot only: all others pass",
    "unplug_mid_write": "pulled mid-write: ABORTED, and nobody holds the tty any more",
    "tower_light": "a tower light with the CH340's own id, in an excluded place, is sent no byte",
    "renumbered_replug": "the tty has another number after a replug; the job lands in the right slot",
    "kill_9": "killed with four boards in several phases: what ran is ABORTED station_restarted, no green without a row",
    "hub_disturbed": "three slots of one hub lost in one go: no board is judged, none begun until it was still, then all pass",
    "storm": "20 plugs per slot at random, jobs cut and passed in it: each green is its plug's PASS, no row is lost",
    "runtime_8": "8 boards plugged in at runtime are done",
    "boot_8": "8 boards that are plugged in while the machine boots are done",
    "doctor_green": "station doctor finds no problem on the installed station",
    "watchdog": "a station that hangs is ended by its watchdog and restarted; boards that were cut off are not green",
    "config_error_78": "a wrong configuration: 78, not restarted, one error in the journal that names the key",
    "journal": "one JSON line per event in the journal, with the priority of its level",
    "upgrade_refused_while_lot_runs": "the second package is refused while a lot that was opened by hand runs",
    "upgrade": "the second package: a verified backup, configuration and records kept, database migrated, running again",
    "go_back": "the first package again, with that backup; jobs made since then are kept as files",
    "backup_restore": "a backup restored onto a fresh install: every row, the slot map, configuration and recipes are the same",
    "purge": "purging leaves no file, no unit and no process",
}
