"""Addresses of protected names: deadlines hold and failures leave a name out."""

from __future__ import annotations

import dns.resolver
import pytest

from vigie.filter.base.resolve import resolve, system_lookup


def test_names_without_an_answer_are_left_out() -> None:
    answers = {"a.example": ["192.0.2.1"], "b.example": []}
    assert resolve(["a.example", "b.example", "a.example"], lambda name, _: answers[name]) == {
        "a.example": ["192.0.2.1"]
    }


def test_no_question_once_the_time_is_over() -> None:
    now = iter([0.0, *[100.0] * 10])
    asked: list[str] = []

    def lookup(name: str, seconds: float) -> list[str]:
        asked.append(name)
        return ["192.0.2.1"]

    assert resolve(["a.example", "b.example"], lookup, whole_s=60, clock=lambda: next(now)) == {}
    assert asked == []


def test_a_question_never_outlives_the_whole() -> None:
    seen: list[float] = []

    def lookup(name: str, seconds: float) -> list[str]:
        seen.append(seconds)
        return []

    resolve(["a.example"], lookup, question_s=3.0, whole_s=1.0, clock=lambda: 0.0)
    assert seen == [1.0]


def test_system_lookup_takes_both_families_and_survives_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    class Record:
        def __init__(self, text: str) -> None:
            self.text = text

        def to_text(self) -> str:
            return self.text

    def answer(self: object, name: str, kind: str, **options: object) -> list[Record]:
        if kind == "AAAA":
            raise dns.resolver.NoNameservers
        return [Record(f"192.0.2.{i}") for i in range(50)]

    monkeypatch.setattr(dns.resolver.Resolver, "resolve", answer)
    found = system_lookup(["192.0.2.53"])("a.example", 1.0)
    assert found == [f"192.0.2.{i}" for i in range(16)]
