"""One thread at a time builds networks.

While diffusers and transformers build one, torch's classes are patched and its default number format is another, for
all threads of this process: of two threads that build at once, one would get a network without weights.
"""

from __future__ import annotations

import threading

BUILDING = threading.RLock()
