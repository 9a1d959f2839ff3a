"""The tokens of an answer and a place in them: what the parser looks at, takes, and expects."""

from dsm_jax.evaluate.grader.scan import Token
from dsm_jax.evaluate.grader.tree import Unreadable

MAX_DEPTH = 40


class Cursor:
    """The tokens of an answer, the place in them, and how deep the parser is."""

    def __init__(self, found: list[Token]) -> None:
        self.tokens = found
        self.place = 0
        self.depth = 0
        self.integrals = 0  # open ones, in which "dx" ends the integrand

    def peek(self, ahead: int = 0) -> Token:
        place = self.place + ahead
        return self.tokens[place] if place < len(self.tokens) else Token("end", "", False)

    def take(self) -> Token:
        token = self.peek()
        self.place += 1
        return token

    def at(self, *texts: str) -> bool:
        token = self.peek()
        return token.kind in ("sign", "command") and token.text in texts

    def accept(self, *texts: str) -> bool:
        found = self.at(*texts)
        self.place += found
        return found

    def expect(self, *texts: str) -> None:
        if not self.accept(*texts):
            raise Unreadable(f"expected {texts[0]!r}, found {self.peek().text!r}")

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("too deep")

    def script(self) -> str:
        if not self.accept("{"):
            return self.take().text
        parts, depth = [], 1
        while depth:
            token = self.take()
            if token.kind == "end":
                raise Unreadable("a subscript that does not end")
            depth += (token.text == "{") - (token.text == "}")
            parts.append(token.text if depth else "")
        return "".join(parts).replace(" ", "")
