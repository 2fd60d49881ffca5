"""Caffe's .prototxt: the text format of protocol buffers, read by a schema.

References: Protocol Buffers documentation, Text Format Language Specification.
"""

from __future__ import annotations

import re
from typing import Any

from convsmith.errors import DataError, near
from convsmith.interop.caffe_schema import ENUMS, SCHEMA
from convsmith.interop.caffe_wire import MAX_DEPTH, Message

# a comment or blank; a name; a number; a quoted text; one sign
_TOKEN = re.compile(
    r"""(?P<blank>\s+|\#[^\n]*)
      | (?P<number>[-+]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[fF]?))(?![A-Za-z_])
      | (?P<name>-?[A-Za-z_][A-Za-z0-9_./]*)
      | (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<sign>[{}<>:,;\[\]])""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}
_CLOSING = {"{": "}", "<": ">"}
Token = tuple[str, str, int]


def parse(text: str, message: str = "NetParameter") -> Message:
    """Return the fields of a message as lists by name, as `caffe_wire.parse` does.

    Fields that the schema does not list are read over. Raises: DataError that names the line.
    """
    reader = _Reader(_tokens(text))
    return reader.message(message, "", 0)


def _tokens(text: str) -> list[Token]:
    found: list[Token] = []
    position, line = 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise DataError(f"line {line}: {text[position : position + 12].splitlines()[0]!r} is no part of a network description")
        kind, piece = str(match.lastgroup), match.group()
        if kind != "blank":
            found.append((kind, piece, line))
        line += piece.count("\n")
        position = match.end()
    return found


class _Reader:
    def __init__(self, tokens: list[Token]) -> None:
        self.tokens, self.place = tokens, 0

    def peek(self) -> Token:
        last = self.tokens[-1][2] if self.tokens else 1
        return self.tokens[self.place] if self.place < len(self.tokens) else ("end", "", last)

    def take(self) -> Token:
        token = self.peek()
        self.place += 1
        return token

    def message(self, name: str, closing: str, depth: int) -> Message:
        """Read fields up to the closing sign; ``name`` is empty inside what the schema does not know."""
        if depth > MAX_DEPTH:
            raise DataError(f"line {self.peek()[2]}: messages nested deeper than {MAX_DEPTH}")
        known, found = SCHEMA.get(name, {}), Message()
        while True:
            kind, word, line = self.take()
            if (kind == "end" and not closing) or (kind == "sign" and word == closing and closing):
                return found
            if kind == "end":
                raise DataError(f"line {line}: the description ends inside a message; {closing!r} is missing")
            if kind == "sign" and word in ",;":
                continue
            if kind != "name":
                raise DataError(f"line {line}: {word!r} stands where the name of a field is expected")
            values = self.values(known.get(word, (0, ""))[1], depth)
            if word in known:
                found.setdefault(word, []).extend(values)

    def values(self, kind: str, depth: int) -> list[Any]:
        """Read what follows the name of a field: a value, a list in brackets, or a message."""
        colon = self.peek()[1] == ":"
        if colon:
            self.take()
        sign = self.peek()
        if sign[0] == "sign" and sign[1] in _CLOSING:
            self.take()
            return [self.message(kind, _CLOSING[sign[1]], depth + 1)]
        if not colon:
            raise DataError(f"line {sign[2]}: {sign[1]!r} stands where ':' or '{{' is expected")
        if sign[1] != "[":
            return [self.scalar(kind)]
        self.take()
        values: list[Any] = []
        while self.peek()[1] != "]":
            if self.peek()[0] == "sign" and self.peek()[1] in _CLOSING:
                values += [self.message(kind, _CLOSING[self.take()[1]], depth + 1)]
            else:
                values.append(self.scalar(kind))
            if self.peek()[1] == ",":
                self.take()
            elif self.peek()[1] != "]":
                raise DataError(f"line {self.peek()[2]}: a list is not closed")
        self.take()
        return values

    def scalar(self, kind: str) -> Any:
        token, word, line = self.take()
        if token == "text":
            while self.peek()[0] == "text":
                word = word[:-1] + self.take()[1][1:]
            return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match.group(1), match.group(1)), word[1:-1])
        if token not in ("name", "number"):
            raise DataError(f"line {line}: {word!r} stands where a value is expected")
        if kind in SCHEMA:
            raise DataError(f"line {line}: {word!r} stands where a message in braces is expected")
        if kind == "bool":
            return _flag(word, line)
        if kind in ("int", "float", "double"):
            return _number(word, kind, line)
        if kind in ENUMS:
            return _member(word, kind, line)
        return word


def _flag(word: str, line: int) -> bool:
    if word not in ("true", "false", "1", "0", "True", "False", "t", "f"):
        raise DataError(f"line {line}: {word!r} is neither true nor false")
    return word in ("true", "1", "True", "t")


def _number(word: str, kind: str, line: int) -> int | float:
    try:
        return int(word, 0) if kind == "int" else float(word.rstrip("fF") if word.lower() not in ("inf", "-inf") else word)
    except ValueError:
        raise DataError(f"line {line}: {word!r} is no {'whole ' if kind == 'int' else ''}number") from None


def _member(word: str, kind: str, line: int) -> str:
    names = ENUMS[kind]
    if word.isdigit():
        return names.get(int(word), word)
    if word not in names.values():
        raise DataError(f"line {line}: {word!r} is none of {', '.join(names.values())}.{near(word, names.values())}")
    return word
