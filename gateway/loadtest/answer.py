"""Read one HTTP/1.1 answer after another from the bytes of a connection. Does no I/O.

A thin layer over httptools (llhttp, strict): interim answers are skipped (RFC 9110 §15.2),
an answer without a length ends with the connection (RFC 9112 §6.3), and bytes that no request
asked for spoil the connection, so that they are never taken for the next answer.
"""

import httptools

LARGEST_BODY = 2**20
"""Bytes of a kept body; the answer of a token endpoint is a few kilobytes."""


class InvalidAnswer(Exception):
    """What came isn't an HTTP/1.1 answer to this request."""


class AnswerReader:
    """Reads the answers of one connection, one request at a time.

    Feed it until ``complete``; then ``status`` and ``reusable`` are known, and ``body`` where
    it is kept. Call ``next_answer`` before the next request.
    """

    __slots__ = (
        "_framed",
        "_keep_body",
        "_parser",
        "_spoilt",
        "body",
        "complete",
        "reusable",
        "status",
    )

    def __init__(self, *, keep_body: bool = False) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._keep_body = keep_body
        self._spoilt = False
        self.next_answer()

    def next_answer(self) -> None:
        """Forget the last answer; ``status`` is 0 until the header section is read."""
        self.status = 0
        self.body = b""
        self.complete = False
        self.reusable = False
        self._framed = False

    def feed(self, data: bytes) -> None:
        """Take bytes from the connection.

        Raises:
            InvalidAnswer: they aren't HTTP, or switch to another protocol, or are too many.
        """
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._spoilt = True
            if not self.complete:
                raise InvalidAnswer from error
        if self._spoilt:
            self.reusable = False

    def end(self) -> bool:
        """Take the end of the connection; says whether it completed the answer."""
        if self.status and not self._framed and not self.complete:
            self.complete = True
        return self.complete

    # What follows is called by httptools.

    def on_message_begin(self) -> None:
        """Notice an answer that nothing asked for."""
        if self.complete:
            self._spoilt = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Notice whether the answer says where it ends."""
        # Nearly every answer has it in one of these two spellings.
        if name in (b"Content-Length", b"content-length"):
            self._framed = True
            return
        lower = name.lower()
        if lower == b"content-length" or (
            lower == b"transfer-encoding" and value.rstrip().lower().endswith(b"chunked")
        ):
            self._framed = True

    def on_headers_complete(self) -> None:
        """Take the status, which is the gateway's decision."""
        status = self._parser.get_status_code()
        if status >= 200 and not self.complete:
            self.status = status

    def on_body(self, data: bytes) -> None:
        """Keep the body where it is wanted."""
        if self._keep_body and not self.complete:
            self.body += data
            if len(self.body) > LARGEST_BODY:
                raise ValueError("the body is too large")

    def on_message_complete(self) -> None:
        """Take the end of an answer, unless it is an interim one."""
        if self.status and not self.complete:
            self.complete = True
            self.reusable = self._parser.should_keep_alive()
