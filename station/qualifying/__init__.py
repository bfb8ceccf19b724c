"""`station qualify`: what the virtual bench assumes of silicon, measured on boards of one's own.

`assumptions` says what is assumed and compares, `probelink` and `probing` measure one board, `probe_record` puts the board on
record as one that is no product, and `qualify` leads a person through all of it. What the daemon needs of the result is in
`station.qualification`; nothing else of the station imports this package.
"""
