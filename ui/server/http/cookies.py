"""Values of this program's own cookies in a Cookie header that other programs of the same host share.

Browsers send the cookies of all programs on localhost to each of them. The standard parser unquotes in quadratic time
in some versions of Python and keeps one value of each name; others drop the whole header for one odd cookie.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# Values of this program's cookies: letters, digits and these; no other character needs to be understood.
_VALUE = r'\s*=\s*"?([\w.~-]{1,256})'


def cookie_values(headers: Iterable[str], name: str) -> tuple[str, ...]:
    """Every different value that cookies of this name may have, in their order, in linear time.

    A value from inside of another program's cookie counts, too: the caller checks a signature.

    Args:
        headers: the Cookie headers, as received.
        name: of the cookie, letters, digits and hyphens.
    """
    found = re.compile(rf"(?<![\w.~-]){re.escape(name)}{_VALUE}", re.ASCII)
    return tuple(dict.fromkeys(value for header in headers for value in found.findall(header)))
