"""The operator's page: one screen, one tile per slot, live; and the small HTTP API beside it.

`app.py` answers requests, `server.py` serves it on the station's own event loop, `static/` is what the browser gets.
It promises to show what `StationView` says, at most a tenth of a second late, and to be visibly dead when the station is.
It must never change anything, never block the loop, and never be a reason for flashing to stop.
"""
