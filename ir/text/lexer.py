"""Tokens of the text form, and errors that say where and what was expected."""

from __future__ import annotations

import re
from typing import NoReturn

from graphopt.ir.errors import MalformedError, printable

_NAME = r'(?:[A-Za-z0-9_.][A-Za-z0-9_./-]*|"(?:[^"\\\n]|\\.)*")'
_TOKEN = re.compile(
    rf"""(?P<space>(?:[ \t\r\n]+|//[^\n]*)+)
    |(?P<ref>[%@$]{_NAME})
    |(?P<bytes>b"(?:[^"\\\n]|\\.)*")
    |(?P<string>"(?:[^"\\\n]|\\.)*")
    |(?P<number>-?(?:0x[0-9a-fA-F]+|[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|(?:inf|nan)(?![A-Za-z0-9_.])))
    |(?P<word>[A-Za-z_][A-Za-z0-9_.]*)
    |(?P<mark>->|[(){{}}\[\],=:*+?\#-])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)")
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"'}
_END = "end"


class Lexer:
    """The current token (`kind`, `text`, `start`) and what may be asked of it."""

    __slots__ = ("_end", "_source", "_text", "kind", "start", "text")

    def __init__(self, text: str, source: str = ""):
        self._text, self._source = text, source
        self._end = 0
        self.kind = self.text = ""
        self.start = 0
        self.next()

    def next(self) -> None:
        """Go to the next token."""
        end = self._end
        while True:
            match = _TOKEN.match(self._text, end)
            if match is None:
                self.start = end
                if end < len(self._text):
                    self.kind, self.text = "mark", self._text[end]
                    self.fail("a name, a value or a punctuation mark")
                self.kind, self.text, self._end = _END, "", end
                return
            end = match.end()
            kind = match.lastgroup or ""
            if kind != "space":
                break
        self.kind, self.text, self.start, self._end = kind, match.group(), match.start(), end

    def fail(self, expected: str) -> NoReturn:
        """Raise `MalformedError` saying what was expected where the current token is."""
        found = "the end of the text" if self.kind == _END else f"'{printable(self.text, 40)}'"
        self.error(f"expected {expected}, found {found}", self.start)

    def error(self, problem: str, start: int) -> NoReturn:
        """Raise `MalformedError` about what stands at `start`."""
        line = self._text.count("\n", 0, start) + 1
        column = start - (self._text.rfind("\n", 0, start) + 1) + 1
        raise MalformedError(f"line {line}, column {column}: {problem}", source=self._source)

    # Asking and taking ----------------------------------------------------------------------------------------

    def at(self, text: str) -> bool:
        """The current token is this mark or word."""
        return self.text == text and self.kind in ("mark", "word")

    def at_ref(self, sigil: str) -> bool:
        """The current token is a name after `sigil`."""
        return self.kind == "ref" and self.text[0] == sigil

    @property
    def at_end(self) -> bool:
        """Nothing follows."""
        return self.kind == _END

    def accept(self, text: str) -> bool:
        """Take this mark or word if it is the current token."""
        if not self.at(text):
            return False
        self.next()
        return True

    def take(self, text: str) -> None:
        """Take this mark or word, or fail."""
        if not self.accept(text):
            self.fail(f"'{text}'")

    def take_ref(self, sigil: str, what: str) -> str:
        """Take a name after `sigil`: `%conv`, `%"a b"`."""
        if not self.at_ref(sigil):
            self.fail(f"{what}, such as '{sigil}name'")
        text = self.text[1:]
        name = self.unescaped(text[1:-1]) if text[0] == '"' else text
        self.next()
        return name

    def take_word(self, what: str) -> str:
        """Take a word or a string that stands for one."""
        if self.kind == "string":
            return self.take_string(what)
        if self.kind != "word":
            self.fail(what)
        word = self.text
        self.next()
        return word

    def take_string(self, what: str) -> str:
        """Take a string in double quotes."""
        if self.kind != "string":
            self.fail(f"{what} in double quotes")
        text = self.unescaped(self.text[1:-1])
        self.next()
        return text

    def take_bytes(self) -> bytes:
        """Take `b"..."`, or a string for its UTF-8."""
        if self.kind == "string":
            start, text = self.start, self.take_string("a string")
            try:
                return text.encode()
            except UnicodeEncodeError:
                self.error("the string has surrogates, which UTF-8 cannot express", start)
        if self.kind != "bytes":
            self.fail('bytes, such as b"NHWC"')
        text = self.unescaped(self.text[2:-1])
        if any(ord(character) > 255 for character in text):
            self.fail("bytes, each character one of the first 256")
        self.next()
        return text.encode("latin-1")

    def take_int(self, what: str, low: int = 0, high: int = (1 << 63) - 1) -> int:
        """Take a whole number within bounds."""
        try:
            number = int(self.text) if self.kind == "number" else None
        except ValueError:  # a fraction, or thousands of digits
            number = None
        if number is None or not low <= number <= high:
            self.fail(f"{what} between {low} and {high}")
        self.next()
        return number

    def unescaped(self, text: str) -> str:
        """`text` with its escapes resolved."""
        return _ESCAPE.sub(self._resolve, text) if "\\" in text else text

    def _resolve(self, match: re.Match[str]) -> str:
        escape = match.group(1)
        if len(escape) == 1:
            if escape not in _SIMPLE:
                self.fail(f"one of \\n \\t \\r \\\\ \\\" \\xNN \\uNNNN \\UNNNNNNNN instead of '\\{printable(escape)}'")
            return _SIMPLE[escape]
        code = int(escape[1:], 16)
        if code > 0x10FFFF:
            self.fail("a code point up to \\U0010ffff")
        return chr(code)
