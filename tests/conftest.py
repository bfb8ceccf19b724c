"""What all tests share: how hypothesis searches.

Machines are shared and noisy, so no example has a deadline. On CI the search is the same every time: a submission must not
fail over luck; elsewhere it is fresh at every run, and finds more over time.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "station",
    deadline=None,
    derandomize=os.environ.get("CI") == "true",
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("station")
