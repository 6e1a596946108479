"""One thread at a time builds networks.

While diffusers and transformers build one, torch's classes are patched and its default number format is another, for
all threads of this process: of two threads that build at once, one would get a network without weights.  Two threads
that import diffusers for the first time at once get an ImportError, so those that may be first hold this lock, too.
"""

from __future__ import annotations

import threading

BUILDING = threading.RLock()
