"""The page that is shown now, for those who ask for it and those who wait for the next."""

from __future__ import annotations

import threading


class Board:
    """A text with a number that grows whenever another text takes its place."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._text, self._number = b"", 0

    def put(self, text: bytes) -> bool:
        """Show a text; gives whether it is another than before."""
        with self._changed:
            if text == self._text:
                return False
            self._text, self._number = text, self._number + 1
            self._changed.notify_all()
            return True

    @property
    def text(self) -> bytes:
        with self._changed:
            return self._text

    def beyond(self, number: int, patience: float) -> int:
        """The number of the text, once it is larger than this or so many seconds have passed."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > number, patience)
            return self._number
