"""The board's side of the conversation: bytes in, bytes out, no clock and no device of its own."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Final

from vigie.contract.bench import NONCE, SESSION, Code, Hello, Label, Outcome, Question, State, Test
from vigie.contract.benchline import Decoder, Frame, Side, encode
from vigie.contract.errors import ContractError
from vigie.contract.fields import Fields
from vigie.errors import HostError
from vigie.factory.checks import TESTS, Bench, Progress, Running
from vigie.factory.errors import FactoryError
from vigie.factory.states import allowed

Facts = Callable[[], dict[str, Any]]
QUIET_S: Final = 5.0
HELLO_S: Final = 1.0
SLOW_S: Final = 5.0
BORED_S: Final = 300.0
"""After so long without a question a board says hello more slowly: perhaps nobody will ever come."""


class Answers:
    """One board's answers. The program feeds bytes and time, writes what comes out, and asks `leaving`.

    A question is known by (session, number): heard again it gets the same answer, and is not done again. One test runs
    at a time; the questions that come meanwhile are answered `busy`, except the same question, which is told how far
    the test is. Another session takes over at once: the station was started again.
    """

    def __init__(self, bench: Bench, facts: Facts, hello: Callable[[State], Hello], *, report_only: bool) -> None:
        self._bench = bench
        self._facts = facts
        self._hello = hello
        self._report_only = report_only
        self._decoder = Decoder(Side.BOARD)
        self._number = 0
        self._session = ""
        self._asked = -1
        self._answer: dict[str, Any] | None = None
        self._running: Running | None = None
        self._progress: Progress = (0, 0)
        self._told = float("-inf")
        self._heard = float("-inf")
        self._begun: float | None = None
        self.leaving: Question | None = None

    def receive(self, data: bytes, now: float) -> bytes:
        """What to write after these bytes came in."""
        out = b""
        for frame in self._decoder.feed(data):
            out += self._question(frame, now)
        return out

    def turn(self, now: float) -> bytes:
        """One step of a running test, or a hello when nobody has asked for a while. What to write."""
        if self._running is not None:
            return self._step(now)
        if self._begun is None:
            self._begun = now
        every = HELLO_S if now - max(self._heard, self._begun) < BORED_S else SLOW_S
        if now - self._heard > QUIET_S and now - self._told >= every:
            self._told = now
            return self._frame({"hello": self.hello().to_dict()})
        return b""

    @property
    def busy(self) -> bool:
        """Whether a test is running: the program should come back soon."""
        return self._running is not None

    def hello(self) -> Hello:
        """The board's own words."""
        return self._hello(self._state())

    # -- questions

    def _question(self, frame: Frame, now: float) -> bytes:
        try:
            f = Fields("question", frame.body)
            session = f.text("s", 16, SESSION)
            asked = f.word("q", Question) if f.has("q") and f.take("q") in list(Question) else None
            arguments = f.object("a")
        except ContractError:
            return b""  # not a question of ours; the station asks again if it meant one
        self._heard = self._told = now
        if session == self._session and frame.number <= self._asked:
            return self._again(frame.number)
        if self._running is not None and session == self._session:
            return self._say(frame.number, {"no": {"code": Code.BUSY.value, "detail": "a test is running"}})
        if self._running is not None:
            self._running.close()
            self._running = None
        self._session, self._asked, self._answer = session, frame.number, None
        self._handle(asked, arguments)
        return self._again(frame.number)

    def _again(self, number: int) -> bytes:
        if number != self._asked:
            return b""  # an older question: its answer is not waited for any more
        if self._answer is None:
            done, of = self._progress
            return self._say(number, {"w": {"done": done, "of": of}})
        return self._say(number, self._answer)

    def _handle(self, asked: Question | None, f: Fields) -> None:
        try:
            if asked is None:
                raise FactoryError(Code.UNKNOWN, "this board does not know that question")
            state = self._state()
            if not allowed(state, asked):
                raise FactoryError(Code.NOT_NOW, f"not in the state `{state}`")
            self._do(asked, f)
        except ContractError as e:
            self._answer = _no(Code.MALFORMED, str(e))
        except FactoryError as e:
            self._answer = _no(e.code, str(e))
        except (HostError, OSError, ValueError) as e:
            self._answer = _no(Code.MACHINE, str(e))

    def _do(self, asked: Question, f: Fields) -> None:
        keeping = self._bench.keeping
        match asked:
            case Question.HELLO:
                self._answer = {"ok": self.hello().to_dict()}
            case Question.REPORT:
                self._answer = {"ok": self._facts()}
            case Question.TEST:
                self._running = TESTS[f.word("name", Test)](self._bench)
                self._progress = (0, 0)
            case Question.KEY:
                self._answer = {"ok": {"public": base64.b64encode(keeping.make_key()).decode()}}
            case Question.PROVE:
                public, signature = keeping.prove(f.text("nonce", 64, NONCE))
                self._answer = {
                    "ok": {
                        "public": base64.b64encode(public).decode(),
                        "signature": base64.b64encode(signature).decode(),
                    }
                }
            case Question.SEAL:
                keeping.seal(Label.from_dict(f.take("label")))
                self._answer = {"ok": {"box": keeping.box()}}
            case Question.LEAVE | Question.RESTART:
                self._answer = {"ok": {}}
                self.leaving = asked

    # -- a test

    def _step(self, now: float) -> bytes:
        running = self._running
        if running is None:
            return b""
        try:
            self._progress = next(running)
        except StopIteration as e:
            outcome: Outcome = e.value
            return self._over({"ok": outcome.to_dict()}, now)
        except FactoryError as e:
            return self._over({"ok": Outcome(False, e.code, str(e)).to_dict()}, now)
        except (HostError, OSError, ValueError) as e:
            return self._over({"ok": Outcome(False, Code.MACHINE, str(e)).to_dict()}, now)
        if now - self._told >= HELLO_S:
            self._told = now
            done, of = self._progress
            return self._say(self._asked, {"w": {"done": done, "of": of}})
        return b""

    def _over(self, answer: dict[str, Any], now: float) -> bytes:
        self._running, self._answer = None, answer
        self._heard = self._told = now
        return self._say(self._asked, answer)

    # -- frames

    def _say(self, number: int, answer: dict[str, Any]) -> bytes:
        return self._frame({"s": self._session, "r": number} | answer)

    def _frame(self, body: dict[str, Any]) -> bytes:
        self._number += 1
        try:
            return encode(Side.BOARD, self._number, body)
        except ContractError as e:
            return encode(
                Side.BOARD,
                self._number,
                {name: body[name] for name in ("s", "r") if name in body} | _no(Code.MACHINE, str(e)),
            )

    def _state(self) -> State:
        return State.REPORT if self._report_only else self._bench.keeping.state()


def _no(code: Code, detail: str) -> dict[str, Any]:
    return {"no": {"code": code.value, "detail": detail[:200]}}
