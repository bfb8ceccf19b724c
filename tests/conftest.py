"""What all tests share: how hypothesis searches, and that Ctrl-C works.

Machines are shared and noisy, so no example has a deadline. On CI the search is the same every time: a submission must not
fail over luck; elsewhere it is fresh at every run, and finds more over time.
"""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

settings.register_profile(
    "station",
    deadline=None,
    derandomize=os.environ.get("CI") == "true",
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("station")

# A shell starts what it puts into the background with SIGINT ignored, and every program of ours would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
