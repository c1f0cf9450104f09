"""The console as people use it: who gets in, what each role may do, and that it is all in the audit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone, translation
from django_otp.oath import TOTP
from django_otp.plugins.otp_totp.models import TOTPDevice

from tests.support.messages import Outbox, alert, box_id, metric, state
from tests.support.signing import LocalAuthority, LocalSigner, local
from vigie_department.console import reports, roles
from vigie_department.console.models import (
    Alert,
    AuditEntry,
    Box,
    BoxStatus,
    Commune,
    DesiredState,
    ExceptionRequest,
    Isolation,
    Observation,
    PolicyException,
)
from vigie_department.console.services import audit, orders, people
from vigie_department.console.services.audit import Actor
from vigie_department.console.web import history
from vigie_department.console.web.site import site
from vigie_department.ingest.decode import decode
from vigie_department.ingest.store import Store

pytestmark = pytest.mark.usefixtures("db")

HOST = "console.vigie.lab"
PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """Passwords are hashed a hundred times in these tests; how is Django's business."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


class Browser(Client):
    """Through nginx: HTTPS, the console's name, a client address, in French unless said otherwise."""

    def __init__(self, address: str = "192.0.2.7", language: str = "fr") -> None:
        super().__init__(HTTP_HOST=HOST, REMOTE_ADDR=address, HTTP_ACCEPT_LANGUAGE=language)

    def request(self, **more: Any) -> Any:
        return super().request(**{"wsgi.url_scheme": "https", "HTTP_X_FORWARDED_PROTO": "https"} | more)

    def login_as(self, name: str, password: str = PASSWORD) -> Any:
        return self.post("/login/?next=/", {"username": name, "password": password, "next": "/"})


@pytest.fixture
def person(db: None) -> Any:
    def make(role: str, name: str = "") -> User:
        return people.add(Actor("test"), name or role, role, PASSWORD)

    return make


@pytest.fixture
def services(db: None) -> Iterator[tuple[LocalSigner, LocalAuthority]]:
    with local() as made:
        yield made


@pytest.fixture
def box(db: None) -> Box:
    commune = Commune.objects.create(insee="59350", name="Lille", epci="MEL")
    return Box.objects.create(id=box_id("web"), serial="S-1", state=Box.State.ACTIVE, commune=commune)


def code_of(device: TOTPDevice) -> str:
    totp = TOTP(device.bin_key, device.step, device.t0, device.digits, device.drift)
    return f"{totp.token():06d}"


def enter(name: str, address: str = "192.0.2.7") -> Browser:
    """Past the second factor."""
    browser = Browser(address)
    assert browser.login_as(name).status_code == 302
    user = User.objects.get(username=name)
    if roles.needs_second_factor(user):
        browser.get("/second-facteur/")
        device = TOTPDevice.objects.get(user=user)
        assert browser.post("/second-facteur/", {"code": code_of(device)}).status_code == 302
        TOTPDevice.objects.update(last_t=-1)
    return browser


def actions(*names: str) -> int:
    return AuditEntry.objects.filter(action__in=names).count()


class TestEntering:
    def test_the_login_page_has_every_header(self) -> None:
        page = Browser().get("/login/")
        assert page.status_code == 200
        assert "default-src 'none'" in page["Content-Security-Policy"]
        assert page["Strict-Transport-Security"].startswith("max-age=63072000")
        assert page["X-Frame-Options"] == "DENY"
        assert page["Cache-Control"]
        cookie = page.cookies["__Host-vigie-csrf"]
        assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (True, True, "Strict")

    def test_nothing_in_it_needs_an_inline_script_or_style(self, person: Any, box: Box) -> None:
        person("operator")
        browser = enter("operator")
        pages = ["/login/", "/", "/console/box/", f"/console/box/{box.pk}/change/", "/console/policyexception/add/"]
        for address in pages:
            text = browser.get(address).content.decode()
            inline = re.findall(
                r"<script(?![^>]*\b(?:src|type=\"application/json\"))[^>]*>|<style|\son\w+=|javascript:", text
            )
            assert not inline, f"{address}: {inline}"

    def test_plain_http_and_other_names_are_refused(self) -> None:
        assert Client(HTTP_HOST=HOST).get("/login/").status_code == 301
        browser = Browser()
        browser.defaults["HTTP_HOST"] = "evil.example"
        assert browser.get("/login/").status_code == 400

    def test_french_first_english_second(self) -> None:
        assert 'lang="fr"' in Browser(language="de").get("/login/").content.decode()
        assert 'lang="en"' in Browser(language="en").get("/login/").content.decode()

    def test_a_reader_needs_no_second_factor(self, person: Any) -> None:
        person("reader")
        assert enter("reader").get("/").status_code == 200

    @pytest.mark.parametrize("role", ["operator", "administrator"])
    def test_who_can_change_boxes_does(self, person: Any, role: str, box: Box) -> None:
        person(role)
        browser = Browser()
        assert browser.login_as(role).status_code == 302
        for page in ("/", "/console/box/", f"/console/box/{box.pk}/change/"):
            assert browser.get(page)["Location"] == "/second-facteur/"
        assert browser.post("/console/box/", {"action": "revoke"})["Location"] == "/second-facteur/"
        enrolment = browser.get("/second-facteur/")
        assert b"data:image/svg+xml;base64," in enrolment.content
        device = TOTPDevice.objects.get()
        assert browser.post("/second-facteur/", {"code": "000000"}).status_code == 200
        assert not TOTPDevice.objects.get().confirmed
        TOTPDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)
        assert browser.post("/second-facteur/", {"code": code_of(device)})["Location"] == "/"
        assert browser.get("/").status_code == 200
        assert actions("user.enrol-factor") == 1

    def test_the_secret_is_shown_at_enrolment_only(self, person: Any) -> None:
        person("operator")
        enter("operator")
        browser = Browser()
        browser.login_as("operator")
        assert b"data:image" not in browser.get("/second-facteur/").content

    def test_guesses_of_the_code_are_slowed_down(self, person: Any) -> None:
        person("operator")
        enter("operator")
        browser = Browser()
        browser.login_as("operator")
        browser.post("/second-facteur/", {"code": "000000"})
        device = TOTPDevice.objects.get()
        answer = browser.post("/second-facteur/", {"code": code_of(device)})
        assert answer.status_code == 200, "the right code right after a wrong one is refused for a while"
        assert actions("login.second-factor-failed") == 2

    def test_guesses_of_the_password_are_limited(self, person: Any) -> None:
        person("reader")
        browser = Browser()
        for _ in range(5):
            browser.login_as("reader", "wrong")
        assert "Trop d'essais" in browser.login_as("reader").content.decode().replace("&#x27;", "'")
        assert actions("login.failed") == 5, "what is refused unseen is not counted on"
        assert Browser(address="192.0.2.8").login_as("reader").status_code == 302, "others are locked out"

    def test_a_subscriber_is_limited_whatever_address_of_its_network_it_takes(self, person: Any) -> None:
        person("reader")
        for number in range(5):
            Browser(address=f"2001:db8:1:2::{number + 1:x}").login_as("reader", "wrong")
        late = Browser(address="2001:db8:1:2:ffff::9").login_as("reader")
        assert "Trop d'essais" in late.content.decode().replace("&#x27;", "'")
        assert Browser(address="2001:db8:1:3::1").login_as("reader").status_code == 302

    def test_an_address_is_limited_over_all_names(self) -> None:
        browser = Browser()
        for number in range(20):
            browser.login_as(f"nobody{number}", "wrong")
        assert "Trop d'essais" in browser.login_as("somebody").content.decode().replace("&#x27;", "'")
        assert set(AuditEntry.objects.values_list("actor", flat=True)) == {"?"}, "a mistyped password is kept"


class TestReading:
    @pytest.mark.slow
    @pytest.mark.usefixtures("services")
    def test_every_page_opens_for_every_role(self, person: Any, box: Box) -> None:
        fill(box)
        for role in people.ROLES:
            user = person(role)
            browser = enter(role)
            for model, page in site._registry.items():
                place = f"admin:{model._meta.app_label}_{model._meta.model_name}"
                permitted = user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}")
                answer = browser.get(reverse(f"{place}_changelist"))
                assert answer.status_code == (200 if permitted else 403), f"{role} {model.__name__}"
                one = model._default_manager.first()
                if permitted and one is not None:
                    answer = browser.get(reverse(f"{place}_change", args=[one.pk]))
                    assert answer.status_code == 200, f"{role} {model.__name__} {one.pk}"
                if permitted and page.search_fields:
                    assert browser.get(reverse(f"{place}_changelist") + "?q=lille").status_code == 200, model.__name__
        assert (
            AuditEntry.objects.filter(action="box.show", box=box.pk, actor="reader", address="192.0.2.7").count() == 1
        )

    def test_a_list_is_not_a_consultation(self, person: Any, box: Box) -> None:
        person("reader")
        enter("reader").get("/console/box/")
        assert actions("box.show") == 0

    def test_boxes_are_found_and_filtered(self, person: Any, box: Box) -> None:
        Box.objects.create(id=box_id("other"), state=Box.State.REVOKED)
        person("reader")
        browser = enter("reader")
        for query, found in (
            ("?q=lille", True),
            ("?q=59350", True),
            ("?q=S-1", True),
            ("?state__exact=revoked", False),
            ("?commune__epci=MEL", True),
        ):
            assert (box.pk in browser.get(f"/console/box/{query}").content.decode()) is found, query

    def test_candidates_are_shown_from_three_communes_up(self, person: Any) -> None:
        now = timezone.now()
        for number in range(3):
            commune = Commune.objects.create(insee=f"5900{number}", name=f"C{number}")
            for twin in range(2):
                one = Box.objects.create(id=box_id(f"o{number}{twin}"), commune=commune)
                for name in ("three.example", "two.example"):
                    if number < 2 or name == "three.example":
                        Observation.objects.create(box=one, candidate=7, indicator=name, count=5, last=now)
        person("reader")
        text = enter("reader").get("/observations/").content.decode()
        assert "three.example" in text
        assert "two.example" not in text, "four boxes of two communes are two communes"
        assert "C0" not in text


class TestActing:
    def act(self, browser: Browser, box: Box, name: str, **values: Any) -> Any:
        selected = {"action": name, "_selected_action": box.pk}
        asked = browser.post("/console/box/", selected)
        assert asked.status_code == 200, f"{name} does not ask"
        assert b'name="apply"' in asked.content
        return browser.post("/console/box/", selected | {"apply": "1"} | values, follow=True)

    def test_a_reader_may_not(self, person: Any, box: Box, services: tuple[LocalSigner, LocalAuthority]) -> None:
        person("reader")
        browser = enter("reader")
        for name in ("release", "revoke", "isolate", "self_test", "restart"):
            browser.post("/console/box/", {"action": name, "_selected_action": box.pk, "apply": "1", "why": "x"})
        browser.post(f"/console/box/{box.pk}/change/", {"location": "ailleurs"})
        assert browser.get("/console/policyexception/add/").status_code == 403
        assert services[0].signed == []
        assert services[1].asked == []
        assert Box.objects.get().location == ""

    def test_an_operator_isolates_and_does_not_revoke(
        self, person: Any, box: Box, services: tuple[LocalSigner, LocalAuthority]
    ) -> None:
        person("operator")
        browser = enter("operator")
        self.act(browser, box, "isolate", level="2", hours="1", why="rançongiciel")
        assert Isolation.objects.get().created_by == "operator"
        assert services[0].signed[-1].isolation.level == 2
        browser.post("/console/box/", {"action": "revoke", "_selected_action": box.pk, "apply": "1", "why": "x"})
        assert services[1].asked == []
        entry = AuditEntry.objects.get(action="isolation.order")
        assert (entry.actor, entry.address, entry.detail["reason"]) == ("operator", "192.0.2.7", "rançongiciel")

    def test_an_administrator_revokes(
        self, person: Any, box: Box, services: tuple[LocalSigner, LocalAuthority]
    ) -> None:
        person("administrator")
        self.act(enter("administrator"), box, "revoke", why="volé")
        assert services[1].asked == [("revoke", box.pk, "volé")]
        assert Box.objects.get().state == Box.State.REVOKED

    def test_what_a_service_refuses_is_said(
        self, person: Any, box: Box, services: tuple[LocalSigner, LocalAuthority]
    ) -> None:
        person("operator")
        services[0].away = True
        page = self.act(enter("operator"), box, "self_test", why="x").content.decode()
        assert "signer: away" in page

    def test_a_conflict_is_released(self, person: Any, box: Box, services: tuple[LocalSigner, LocalAuthority]) -> None:
        box.state = Box.State.CONFLICT
        box.save()
        person("operator")
        self.act(enter("operator"), box, "release", why="appelé la mairie")
        assert services[1].asked == [("release", "S-1", "appelé la mairie")]

    def test_a_box_is_edited(self, person: Any, box: Box, services: tuple[LocalSigner, LocalAuthority]) -> None:
        person("operator")
        values = {"commune": box.commune_id, "location": "baie 2", "inbound": "refuse", "lot": "L2", "notes": ""}
        answer = enter("operator").post(f"/console/box/{box.pk}/change/", values)
        assert answer.status_code == 302, answer.content.decode()[-2000:]
        assert services[0].signed[-1].settings.inbound == "refuse"
        assert AuditEntry.objects.get(action="box.edit").detail["changed"]["location"] == ["", "baie 2"]

    def test_an_exception_from_an_alert(
        self, person: Any, box: Box, services: tuple[LocalSigner, LocalAuthority]
    ) -> None:
        fill(box)
        person("operator")
        browser = enter("operator")
        page = browser.get(f"/console/alert/{Alert.objects.get().pk}/change/").content.decode()
        link = re.search(r'href="(/console/policyexception/add/\?[^"]+)"', page)
        assert link, page[-3000:]
        ends = {(timezone.localtime() + timedelta(days=30)).date()}
        form = browser.get(link[1].replace("&amp;", "&")).content.decode()
        ends.add((timezone.localtime() + timedelta(days=30)).date())  # midnight may pass meanwhile
        assert 'value="toxic.example"' in form
        until = timezone.localtime() + timedelta(days=10)
        values = {
            "box": box.pk,
            "action": "allow",
            "target": "toxic.example",
            "until_0": f"{until:%Y-%m-%d}",
            "until_1": "12:00:00",
            "note": "logiciel d'état civil",
        }
        answer = browser.post("/console/policyexception/add/", values)
        assert answer.status_code == 302, answer.content.decode()[-3000:]
        alert_of = Alert.objects.get()
        assert f'value="{alert_of.device}"' in form
        assert f'<option value="{box.pk}" selected>' in form
        assert any(f'name="until_0" value="{end:%d/%m/%Y}"' in form for end in ends), ends
        assert form.count("tout le parc.") == 2, "what an empty box and an empty commune mean"
        assert [one.target for one in services[0].signed[-1].exceptions] == ["toxic.example"]
        assert PolicyException.objects.get().created_by == "operator"
        refused = browser.post("/console/policyexception/add/", values | {"target": "10.0.0.0/8"})
        assert "trop large" in refused.content.decode()
        assert PolicyException.objects.count() == 1

    def test_alerts_are_dealt_with_and_requests_answered(
        self, person: Any, box: Box, services: tuple[LocalSigner, LocalAuthority]
    ) -> None:
        fill(box)
        person("operator")
        browser = enter("operator")
        browser.post("/console/alert/", {"action": "mark", "_selected_action": Alert.objects.get().pk})
        assert Alert.objects.get().handled_by == "operator"
        row = ExceptionRequest.objects.get()
        browser.post(
            "/console/exceptionrequest/", {"action": "grant", "_selected_action": row.pk, "apply": "1"}, follow=True
        )
        assert PolicyException.objects.get().target == "wanted.example"
        assert ExceptionRequest.objects.get().state == "granted"

    def test_history_cannot_be_changed(self, person: Any, box: Box) -> None:
        person("administrator")
        browser = enter("administrator")
        entry = AuditEntry.objects.first()
        assert entry is not None
        for page in (f"/console/auditentry/{entry.pk}/change/", f"/console/auditentry/{entry.pk}/delete/"):
            assert browser.post(page, {"actor": "x", "post": "yes"}).status_code == 403
        browser.post("/console/auditentry/", {"action": "delete_selected", "_selected_action": entry.pk})
        assert AuditEntry.objects.filter(pk=entry.pk, actor=entry.actor).exists()

    def test_lifting_is_called_lifting(
        self, person: Any, box: Box, services: tuple[LocalSigner, LocalAuthority]
    ) -> None:
        person("operator")
        browser = enter("operator")
        self.act(browser, box, "isolate", level="2", hours="1", why="rançongiciel")
        asked = browser.post("/console/box/", {"action": "lift", "_selected_action": box.pk}).content.decode()
        assert "<h1>Lever l&#x27;isolement</h1>" in asked
        page = self.act(browser, box, "lift", why="fini").content.decode()
        assert "levée de l&#x27;isolement envoyée" in page
        assert "isolement ordonné" not in page
        assert services[0].signed[-1].isolation is None
        assert Isolation.objects.get().lifted is not None


class TestWords:
    """What people read is words: no code, no key, no date for machines."""

    def test_an_order_on_its_way_is_seen(
        self, person: Any, box: Box, services: tuple[LocalSigner, LocalAuthority]
    ) -> None:
        person("operator")
        browser = enter("operator")
        status = BoxStatus.objects.create(box=box, online=True, desired_version=0)
        orders.isolate(Actor("anne"), box, 3, timedelta(hours=1), "rançongiciel")
        document = DesiredState.objects.get()
        for page in ("/console/box/", f"/console/box/{box.pk}/change/"):
            text = browser.get(page).content.decode()
            assert "3 : coupé (en attente)" in text, page
        status.desired_version, status.isolation = document.version, 3
        status.save()
        assert "en attente" not in browser.get("/console/box/").content.decode()
        orders.isolate(Actor("anne"), box, 0, timedelta(0), "fini")
        assert "3 : coupé (levée en attente)" in browser.get("/console/box/").content.decode()
        orders.isolate(Actor("anne"), box, 1, timedelta(hours=1), "encore")
        assert "3 : coupé → 1 : vigilance (en attente)" in browser.get("/console/box/").content.decode()
        DesiredState.objects.filter(version=document.version + 2).update(result="refused")
        answered = browser.get("/console/box/").content.decode()
        assert "en attente" not in answered
        assert "refusé" in answered

    @pytest.mark.parametrize(
        ("action", "detail", "said"),
        [
            (
                "exception.add",
                {"effect": "allow", "target": "a.example", "until": "2026-12-24 08:30:00+00:00", "note": "urgent"},
                "laisser passer, a.example, jusqu'au 24/12/2026 09:30, «\u00a0urgent\u00a0»",
            ),
            ("authority.registered", {"serial": "S", "spki": "30" * 91, "model": "cm4"}, ""),
            ("authority.confirmed", {"number": "ab" * 16, "not_after": 1_790_000_000}, "valable jusqu'au 21/09/2026"),
            ("desired.sign", {"version": 4, "reason": "isolation 2"}, "version 4, isolement 2 : services essentiels"),
            ("desired.sign", {"version": 5, "reason": "isolation 0"}, "version 5, isolement levé"),
            ("desired.sign", {"version": 6, "reason": ""}, "version 6"),
            ("box.assign", {"commune": "59350", "before": None}, "Lille"),
            ("box.edit", {"changed": {"warranty_until": ["", "2027-01-31"]}}, "garantie jusqu'au : - → 31/01/2027"),
            ("commune.edit", {"insee": "59350", "changed": {"contact_phone": "03"}}, "téléphone : 03"),
            ("command.restart", {"args": {"service": "filter", "items": []}}, "filter"),
            ("user.add", {"name": "anne", "role": "Opérateur"}, "anne, Opérateur"),
        ],
    )
    def test_history(self, box: Box, action: str, detail: dict[str, Any], said: str) -> None:
        what = box.commune if action.startswith("commune") else box
        line = history.line(audit.record(Actor("anne"), action, what, **detail))
        assert line.startswith(said)
        assert "30303030" not in line
        assert "abababab" not in line

    def test_history_in_english_and_bounded(self, box: Box) -> None:
        entry = audit.record(Actor("anne"), "exception.add", box, effect="allow", target="a" * 300)
        with translation.override("en"):
            line = history.line(entry)
        assert line.startswith("let through, aaaa")
        assert len(line) == history.WIDTH

    @pytest.mark.usefixtures("services")
    def test_an_alert_is_named_by_what_happened_and_where(self, person: Any, box: Box) -> None:
        fill(box)
        Alert.objects.update(rule="rogue-dhcp")
        person("reader")
        page = enter("reader").get(f"/console/alert/{Alert.objects.get().pk}/change/").content.decode()
        assert "<h2>un appareil distribue des adresses · Lille</h2>" in page
        assert "rogue-dhcp" not in page
        assert "icon-no" not in page, "what is no incident is no fault"

    def test_filters_say_what_they_are_for(self, person: Any, box: Box) -> None:
        fill(box)
        person("reader")
        browser = enter("reader")
        alerts = browser.get("/console/alert/").content.decode()
        assert ">à traiter</a>" in alerts
        assert ">traitée</a>" in alerts
        assert "Vide" not in alerts
        now = timezone.now()
        common = {"action": "allow", "note": "x", "created": now, "created_by": "anne"}
        for name, days, removed in (("far", 90, None), ("near", 3, None), ("past", -1, None), ("gone", 90, now)):
            until = now + timedelta(days=days)
            PolicyException.objects.create(target=f"{name}.example", until=until, removed=removed, **common)
        for validity, found in (
            ("now", {"far", "near"}),
            ("soon", {"near"}),
            ("over", {"past", "gone"}),
            ("nonsense", {"far", "near", "past", "gone"}),
        ):
            page = browser.get(f"/console/policyexception/?validity={validity}").content.decode()
            assert set(re.findall(r">(\w+)\.example<", page)) == found, validity
        assert "expire dans les 7 jours" in page

    def test_the_first_page_has_daily_tables_first(self, person: Any) -> None:
        person("administrator")
        page = enter("administrator").get("/").content.decode()
        tables = re.findall(r'<th scope="row"><a href="/(?:console|auth)/(\w+)/">', page)
        assert tables[:5] == ["alert", "box", "commune", "policyexception", "exceptionrequest"]
        assert set(tables) == {str(model._meta.model_name) for model in site._registry}
        assert re.findall("<caption>(.*?)</caption>", page) == ["Au quotidien", "Décisions et suivi", "Technique"]

    def test_the_language_is_chosen_in_the_header(self, person: Any) -> None:
        person("administrator")
        browser = Browser()
        assert 'action="/langue/"' in browser.get("/login/").content.decode()
        browser = enter("administrator")
        assert browser.get("/langue/").status_code == 405
        answer = browser.post("/langue/", {"language": "en", "next": "/auth/user/"})
        assert answer["Location"] == "/auth/user/"
        cookie = answer.cookies["__Host-vigie-language"]
        assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (True, True, "Strict")
        page = browser.get("/auth/user/").content.decode()
        assert 'lang="en"' in page
        assert "Administrator" in page
        assert "Administrateur" not in page, "roles too"
        assert browser.post("/langue/", {"language": "fr", "next": "https://evil.example/"})["Location"] == "/"

    def test_the_language_is_chosen_before_the_second_factor(self, person: Any) -> None:
        person("operator")
        browser = Browser()
        browser.login_as("operator")
        answer = browser.post("/langue/", {"language": "en", "next": "/second-facteur/"})
        assert answer["Location"] == "/second-facteur/"
        assert 'lang="en"' in browser.get("/second-facteur/").content.decode()

    def test_the_list_of_boxes_at_the_command_line(self, box: Box) -> None:
        with translation.override("fr"):
            text = reports.box_table(reports.boxes())
        assert text.split("\n")[0].split() == ["identifiant", "commune", "état", "en", "ligne", "base", "vu", "le"]
        assert "inscrit" in text
        assert reports.boxes()[0]["state"] == "active", "programs read the code"
        with translation.override("en"):
            assert "enrolled" in reports.box_table(reports.boxes())


class TestPeople:
    def test_an_administrator_gives_one_of_three_roles(self, person: Any) -> None:
        person("administrator")
        other = Group.objects.create(name="Autre")
        browser = enter("administrator")
        values = {
            "username": "anne",
            "usable_password": "true",
            "password1": PASSWORD + "!",
            "password2": PASSWORD + "!",
            "groups": [Group.objects.get(name=roles.OPERATOR).pk],
        }
        assert browser.post("/auth/user/add/", values | {"groups": [other.pk]}).status_code == 200
        assert browser.post("/auth/user/add/", values).status_code == 302
        anne = User.objects.get(username="anne")
        assert (anne.is_staff, anne.is_superuser) == (True, False)
        assert AuditEntry.objects.get(action="user.add", object_id=str(anne.pk)).detail["role"] == [roles.OPERATOR]
        edit = {"username": "anne", "is_active": "on", "is_superuser": "on", "groups": values["groups"]}
        browser.post(f"/auth/user/{anne.pk}/change/", edit)
        assert not User.objects.get(username="anne").is_superuser

    def test_an_operator_may_not(self, person: Any) -> None:
        person("operator")
        assert enter("operator").get("/auth/user/").status_code == 403

    def test_a_lost_telephone(self, person: Any) -> None:
        person("administrator")
        lost = person("operator", "lost")
        enter("lost")
        enter("administrator").post("/auth/user/", {"action": "reset_factor", "_selected_action": lost.pk})
        assert not TOTPDevice.objects.filter(user=lost).exists()
        assert actions("user.reset-factor") == 1


def fill(box: Box) -> None:
    """A bit of everything."""
    outbox = Outbox(box.pk)
    consent = {"at": 1_790_000_000, "by": "mairie"}
    request = {"indicator": "wanted.example", "device": None, "days": 30, "words": "Urgent", "consent": consent}
    messages = [
        outbox.message("alert", alert(1, severity=3)),
        outbox.message("metric", metric()),
        outbox.message("request", request),
        outbox.message("diagnostic", {"command": "ab" * 16, "consent": consent, "items": {"dmesg": "…"}}),
        Outbox(box.pk, boot="c" * 32).message("state", state()),
        (f"vigie/v1/{box.pk}/up/alert", b"\xff"),
    ]
    Store().write([decode(topic, payload) for topic, payload in messages])
