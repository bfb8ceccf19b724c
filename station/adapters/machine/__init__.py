"""What the machine around the station is like: udev rules, USB tree, processes, mounts, users, kernel modules.

Each module reads files below one root and returns facts (`tools` asks programs that only look). Nothing is judged here, and
nothing is ever changed. A file that may not be read raises OSError, so that nobody takes what could not be seen for what is
well. The root is `/`, and a directory of their own for tests.
"""

from __future__ import annotations
