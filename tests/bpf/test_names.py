"""Layer 6: names in DNS queries and in the client's first payload."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support import packets as p
from tests.support.policies import CLASS_FORCE, CLASS_NEVER, FOREVER, AddressException, IndicatorClass, NameException
from tests.support.strategies import T0
from tests.support.town import HOME, NEVER, TOXIC, WATCHED, Town
from vigie.contract.codes import Action, Direction, InboundMode, Reason, Verdict

pytestmark = pytest.mark.bpf
Make = Callable[..., Town]

PASSES = (Verdict.PASS, Reason.DEFAULT)
FORCED = 4
FORCE = {"classes": {**HOME.classes, FORCED: IndicatorClass(CLASS_FORCE, action=Action.BLOCK)}}


def query(name: str | bytes, *, remote: str = p.PLAIN, **fields: int) -> object:
    source = p.PC6 if p.is6(remote) else p.PC
    return p.udp(source, remote, 40000, 53, p.dns_query(name, **fields))  # type: ignore[arg-type]


def tcp_query(name: str, *, prefix: bool = True) -> object:
    message = p.dns_query(name)
    return p.tcp(p.PC, p.PLAIN, 40000, 53, "PA", p.over_tcp(message) if prefix else message)


class TestDns:
    @pytest.mark.parametrize(
        ("name", "toxic"),
        [
            ("evil.example", True),
            ("www.evil.example", True),
            ("a.b.c.d.e.f.g.evil.example", True),
            ("EVIL.example", True),
            ("wWw.eViL.eXaMpLe", True),
            ("x" * 63 + ".evil.example", True),
            (".".join(["y" * 59] * 4) + ".evil.example", True),
            (".".join(["z"] * 120) + ".evil.example", True),
            ("notevil.example", False),
            ("evil.example.org", False),
            ("example", False),
            ("evil", False),
            ("", False),
        ],
    )
    @pytest.mark.parametrize("remote", [p.PLAIN, p.PLAIN6, p.NEIGHBOUR])
    def test_suffixes_and_letter_case(self, town: Make, name: str, toxic: bool, remote: str) -> None:
        got = town().sends(query(name, remote=remote))
        passes = (Verdict.PASS, Reason.LOCAL if remote == p.NEIGHBOUR else Reason.DEFAULT)
        assert got.decided == ((Verdict.NXDOMAIN, Reason.TOXIC_DNS) if toxic else passes)

    @pytest.mark.parametrize("kind", [1, 28, 16, 65, 255])
    def test_every_type_of_question(self, town: Make, kind: int) -> None:
        assert town().sends(query("evil.example", kind=kind)).verdict == Verdict.NXDOMAIN

    def test_tcp_is_cut(self, town: Make) -> None:
        t = town()
        t.sends(p.tcp(p.PC, p.PLAIN, 40000, 53))
        assert t.sends(tcp_query("fine.example")).decided == PASSES
        assert t.sends(tcp_query("evil.example")).decided == (Verdict.REFUSE, Reason.TOXIC_DNS)
        assert t.sends(tcp_query("evil.example", prefix=False)).decided == (Verdict.REFUSE, Reason.TOXIC_DNS)
        assert t.sends(tcp_query("fine.example")).decided == PASSES, "one question is refused, not the resolver"

    def test_every_query_of_a_flow_is_read(self, town: Make) -> None:
        t = town()
        for _ in range(3):
            assert t.sends(query("fine.example")).decided == PASSES
            assert t.sends(query("evil.example")).verdict == Verdict.NXDOMAIN

    def test_observed_query_passes_and_so_does_its_answer(self, town: Make) -> None:
        t = town()
        assert t.sends(query("odd.example")).decided == (Verdict.OBSERVE, Reason.TOXIC_DNS)
        answer = p.udp(p.PLAIN, p.PC, 53, 40000, p.dns_answer("odd.example", [p.PLAIN]))
        assert t.receives(answer).decided == (Verdict.PASS, Reason.ESTABLISHED)

    def test_never_block_at_any_level_spares(self, town: Make) -> None:
        t = town(names={"good.example": NEVER, "evil.good.example": TOXIC, "example": TOXIC})
        assert t.sends(query("www.evil.good.example")).decided == (Verdict.PASS, Reason.NEVER_BLOCK)
        assert t.sends(query("other.example")).verdict == Verdict.NXDOMAIN

    def test_forced_names_hold_below_never_block(self, town: Make) -> None:
        t = town(**FORCE, names={"good.example": NEVER, "doh.good.example": FORCED})
        assert t.sends(query("x.doh.good.example")).decided == (Verdict.NXDOMAIN, Reason.TOXIC_DNS)
        assert t.sends(query("x.good.example")).decided == (Verdict.PASS, Reason.NEVER_BLOCK)

    def test_longest_listed_name_decides(self, town: Make) -> None:
        t = town(names={"example": TOXIC, "odd.example": WATCHED})
        assert t.sends(query("www.odd.example")).decided == (Verdict.OBSERVE, Reason.TOXIC_DNS)
        assert t.sends(query("www.example")).verdict == Verdict.NXDOMAIN

    def test_exceptions_by_name(self, town: Make) -> None:
        t = town(
            local_names={
                (p.PC_MAC, "evil.example"): NameException(Action.ALLOW),
                (None, "www.evil.example"): NameException(Action.BLOCK),
                (None, "fine.example"): NameException(Action.BLOCK, until=T0 + 100),
                (None, "seen.example"): NameException(Action.OBSERVE),
            }
        )
        assert t.sends(query("www.evil.example")).decided == (Verdict.PASS, Reason.EXCEPTION)
        got = t.sends(query("www.evil.example"), smac=p.CAMERA_MAC)
        assert got.decided == (Verdict.NXDOMAIN, Reason.EXCEPTION_BLOCK)
        assert t.sends(query("fine.example")).decided == (Verdict.NXDOMAIN, Reason.EXCEPTION_BLOCK)
        assert t.sends(query("seen.example")).decided == (Verdict.OBSERVE, Reason.EXCEPTION)
        t.wait(110)
        assert t.sends(query("fine.example")).verdict == Verdict.PASS

    def test_a_spared_name_spares_its_query_from_later_layers(self, town: Make) -> None:
        t = town(dynamic={(None, p.PLAIN): FOREVER})
        assert t.sends(query("good.example")).decided == (Verdict.PASS, Reason.NEVER_BLOCK)
        assert t.sends(query("fine.example")).decided == (Verdict.REFUSE, Reason.DYNAMIC)

    @pytest.mark.parametrize(
        "message",
        [
            p.dns_query(b"\x04evil\xc0\x0c"),
            p.dns_query(b"\x40" + b"a" * 64 + b"\x04evil\x07example\0"),
            p.dns_query(b"\x80a\x04evil\x07example\0"),
            p.dns_query(b"\x01z" * 122 + b"\x04evil\x07example\0"),
            p.dns_query("evil.example")[:-1],
            p.dns_query("evil.example")[:20],
            p.dns_query("evil.example")[:11],
        ],
        ids=["pointer", "label-64", "label-128", "name-258", "class-cut", "name-cut", "header-cut"],
    )
    def test_malformed_questions_get_no_name_verdict(self, town: Make, message: bytes) -> None:
        got = town().sends(p.udp(p.PC, p.PLAIN, 40000, 53, message))
        assert (got.decided, got.anomaly) == (PASSES, Reason.BAD_DNS)

    def test_longest_name_is_read(self, town: Make) -> None:
        wire = b"\x01z" * 120 + b"\x04evil\x07example\0"
        assert len(wire) == 254
        assert town().sends(query(wire)).verdict == Verdict.NXDOMAIN
        assert town().sends(query(b"\x02zz" + wire[2:])).verdict == Verdict.NXDOMAIN

    def test_only_questions(self, town: Make) -> None:
        for flags, count in ((0x8180, 1), (0x0100, 0), (0x0100, 2)):
            got = town().sends(query("evil.example", flags=flags, questions=count))
            assert got.decided == PASSES
        other_port = p.udp(p.PC, p.PLAIN, 40000, 5353, p.dns_query("evil.example"))
        assert town().sends(other_port).decided == PASSES

    def test_behind_tags_and_extension_headers(self, town: Make) -> None:
        t = town()
        assert t.sends(query("evil.example"), vlans=[5, 6]).verdict == Verdict.NXDOMAIN
        six = p.extensions6(query("evil.example", remote=p.PLAIN6), [60])  # type: ignore[arg-type]
        assert t.sends(six).decided == (Verdict.NXDOMAIN, Reason.TOXIC_DNS)


class Web:
    """A connection of the PC to a web server."""

    def __init__(self, town: Town, remote: str = p.PLAIN, port: int = 443, *, sport: int = 40000) -> None:
        self.town = town
        self.ends = (p.PC6 if p.is6(remote) else p.PC, remote, sport, port)
        self.opened = town.sends(p.tcp(*self.ends, "S"))
        if self.opened.verdict in (Verdict.PASS, Verdict.OBSERVE):
            self.answers("SA")

    def says(self, payload: bytes, flags: str = "PA") -> tuple[Verdict, Reason]:
        return self.town.sends(p.tcp(*self.ends, flags, payload)).decided

    def answers(self, flags: str = "PA", payload: bytes = b"") -> tuple[Verdict, Reason]:
        pc, remote, sport, dport = self.ends
        return self.town.receives(p.tcp(remote, pc, dport, sport, flags, payload)).decided


REFUSED = (Verdict.REFUSE, Reason.TOXIC_SNI)


class TestServerName:
    @pytest.mark.parametrize("remote", [p.PLAIN, p.PLAIN6])
    @pytest.mark.parametrize("port", [443, 8443, 25])
    @pytest.mark.parametrize(
        "name", ["evil.example", "WWW.Evil.Example", "a.evil.example.", "x" * 63 + ".evil.example"]
    )
    def test_toxic_name_is_refused(self, town: Make, remote: str, port: int, name: str) -> None:
        web = Web(town(), remote, port)
        assert web.says(p.client_hello(name)) == REFUSED
        assert web.says(p.client_hello(name)) == REFUSED, "a retransmission is refused too"
        assert web.answers("PA", b"data") == REFUSED

    @pytest.mark.parametrize("before", [0, 1, 5, 40])
    @pytest.mark.parametrize("session", [0, 32])
    def test_wherever_the_name_stands(self, town: Make, before: int, session: int) -> None:
        hello = p.client_hello("evil.example", before=before, session=session)
        assert Web(town()).says(hello) == REFUSED

    @pytest.mark.parametrize("name", ["notevil.example", "evil.example.org", "fine.example", "evil..example", None])
    def test_other_names_pass(self, town: Make, name: str | None) -> None:
        web = Web(town())
        assert web.says(p.client_hello(name))[0] == Verdict.PASS
        assert web.says(b"x")[0] == Verdict.PASS

    def test_name_in_the_first_segment_of_a_long_hello(self, town: Make) -> None:
        hello = p.client_hello("evil.example", pad=1500)
        assert Web(town()).says(hello[:600]) == REFUSED

    def test_only_the_first_payload_is_read(self, town: Make) -> None:
        web = Web(town())
        assert web.says(b"GET / HTTP/1.1\r\n\r\n")[0] == Verdict.PASS
        assert web.says(p.client_hello("evil.example"))[0] == Verdict.PASS

    def test_the_servers_payload_is_not(self, town: Make) -> None:
        web = Web(town())
        assert web.answers("PA", p.client_hello("evil.example"))[0] == Verdict.PASS
        assert web.says(p.client_hello("evil.example")) == REFUSED

    def test_payload_in_the_syn(self, town: Make) -> None:
        got = town().sends(p.tcp(p.PC, p.PLAIN, 40000, 443, "S", p.client_hello("evil.example")))
        assert got.decided == REFUSED

    def test_a_new_connection_of_the_same_ports_is_read_again(self, town: Make) -> None:
        t = town()
        web = Web(t)
        web.says(b"not tls")
        web.says(b"", "RA")
        assert Web(t).says(p.client_hello("evil.example")) == REFUSED
        assert Web(t).says(p.client_hello("fine.example"))[0] == Verdict.PASS

    def test_a_refusal_by_name_outlives_the_epoch(self, town: Make) -> None:
        t = town()
        web = Web(t)
        assert web.says(p.client_hello("evil.example")) == REFUSED
        for fields in ({}, {"names": {}}, {"local_names": {(None, "evil.example"): NameException(Action.ALLOW)}}):
            t.change(**fields)
            assert web.says(p.client_hello("evil.example")) == REFUSED
            assert web.answers("PA", b"data") == REFUSED
        assert Web(t).says(p.client_hello("evil.example"))[0] == Verdict.PASS, "a new connection is judged anew"

    def test_inbound_connections_are_not_read(self, town: Make) -> None:
        t = town(inbound_mode=InboundMode.OFF)
        t.receives(p.tcp(p.PLAIN, p.PC, 5000, 443))
        t.sends(p.tcp(p.PC, p.PLAIN, 443, 5000, "SA"))
        hello = p.tcp(p.PLAIN, p.PC, 5000, 443, "PA", p.client_hello("evil.example"))
        assert t.receives(hello).verdict == Verdict.PASS

    def test_neighbours_are_not_read(self, town: Make) -> None:
        assert Web(town(), p.NEIGHBOUR).says(p.client_hello("evil.example")) == (Verdict.PASS, Reason.LOCAL)

    def test_observed_and_spared_names(self, town: Make) -> None:
        t = town(
            local_names={
                (p.PC_MAC, "evil.example"): NameException(Action.ALLOW),
                (None, "seen.example"): NameException(Action.OBSERVE),
                (None, "fine.example"): NameException(Action.BLOCK),
            }
        )
        assert Web(t, sport=1).says(p.client_hello("odd.example")) == (Verdict.OBSERVE, Reason.TOXIC_SNI)
        assert Web(t, sport=2).says(p.client_hello("evil.example"))[0] == Verdict.PASS
        assert Web(t, sport=3).says(p.client_hello("seen.example")) == (Verdict.OBSERVE, Reason.EXCEPTION)
        assert Web(t, sport=4).says(p.client_hello("fine.example")) == (Verdict.REFUSE, Reason.EXCEPTION_BLOCK)
        assert Web(t, sport=5).says(p.client_hello("good.example"))[0] == Verdict.PASS

    def test_exception_by_address_spares_the_name(self, town: Make) -> None:
        t = town(exceptions={(None, "203.0.113.7/32"): AddressException(Action.ALLOW)})
        assert Web(t).says(p.client_hello("evil.example")) == (Verdict.PASS, Reason.EXCEPTION)

    def test_first_observation_is_kept(self, town: Make) -> None:
        web = Web(town(), "198.18.0.1")
        assert web.opened.decided == (Verdict.OBSERVE, Reason.TOXIC_ADDRESS)
        assert web.says(p.client_hello("odd.example")) == (Verdict.OBSERVE, Reason.TOXIC_ADDRESS)

    def test_before_roles_are_known(self, town: Make) -> None:
        assert Web(town(wan_port=-1)).says(p.client_hello("evil.example")) == REFUSED

    @pytest.mark.parametrize(
        "damage",
        [
            lambda h: h[:5] + b"\x02" + h[6:],
            lambda h: b"\x17" + h[1:],
            lambda h: h[:1] + b"\x02" + h[2:],
        ],
        ids=["server-hello", "application-data", "ssl2"],
    )
    def test_what_is_no_hello(self, town: Make, damage: Callable[[bytes], bytes]) -> None:
        web = Web(town())
        assert web.says(damage(p.client_hello("evil.example")))[0] == Verdict.PASS

    def test_every_cut_of_a_hello_is_harmless(self, town: Make) -> None:
        t = town()
        hello = p.client_hello("evil.example", before=1)
        whole = hello.index(b"evil.example") + len(b"evil.example")
        for size in range(1, len(hello)):
            verdict = Web(t, sport=1000 + size).says(hello[:size])
            assert (verdict == REFUSED) == (size >= whole), size

    def test_every_byte_changed_is_harmless(self, town: Make) -> None:
        t = town()
        hello = p.client_hello("evil.example")
        for at in range(len(hello)):
            for value in (0, 255, hello[at] ^ 1):
                Web(t, sport=2000 + at).says(hello[:at] + bytes([value]) + hello[at + 1 :])


def test_directions_and_never_block_flags_of_names(town: Make) -> None:
    classes = {1: IndicatorClass(direction=Direction.IN, action=Action.BLOCK), 2: IndicatorClass(CLASS_NEVER, rank=3)}
    t = town(classes=classes, base={}, names={"evil.example": 1, "good.example": 2})
    assert t.sends(query("evil.example")).verdict == Verdict.NXDOMAIN
    assert t.sends(query("good.example")).reason == Reason.NEVER_BLOCK
