"""The mark of favourites."""

from __future__ import annotations

STAR = (
    '<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M8 1.6l1.9 4 4.4.6-3.2 3 .8 4.4L8 11.5l-3.9 2.1.8-4.4-3.2-3 '
    '4.4-.6z"></path></svg>'
)
