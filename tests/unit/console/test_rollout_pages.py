"""Rollouts where people meet them: the console's pages, the box's history, doctor, the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings
from django.utils import timezone

from tests.support.messages import box_id
from vigie_department import cli
from vigie_department.config import Config
from vigie_department.console.models import AuditEntry, Box, BoxStatus, Commune, Cursor, Freeze, Rollout, RolloutBox
from vigie_department.console.services import audit, people
from vigie_department.console.services.audit import Actor
from vigie_department.console.web import history, words
from vigie_department.ops import doctor
from vigie_department.rollout.plan import Plan
from vigie_department.rollout.ticking import BEAT

from .test_web import PASSWORD, Browser, enter

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture
def box(db: None) -> Box:
    commune = Commune.objects.create(insee="59350", name="Lille", epci="MEL")
    return Box.objects.create(id=box_id("web"), serial="S-1", state=Box.State.ACTIVE, commune=commune)


@pytest.fixture
def rollout(box: Box) -> Rollout:
    """Stopped in its first wave."""
    now = timezone.now()
    row = Rollout.objects.create(
        version="2026.11.2", stage="stopped", plan=Plan(("1", "20%")).to_dict(), wave_since=now, created=now,
        created_by="anne", started=now, changed=now, reason="vague 1 : échecs 2 sur 6, arrêt à 2",
    )  # fmt: skip
    RolloutBox.objects.create(
        rollout=row, box=box, wave=0, outcome="failed", code="unhealthy", health="forward", changed=now
    )
    Freeze.objects.create(first=now.date(), last=now.date(), reason="élections", created=now, created_by="anne")
    return row


@pytest.fixture
def reader(db: None) -> Browser:
    people.add(Actor("test"), "reader", "reader", PASSWORD)
    assert User.objects.filter(username="reader").exists()
    return enter("reader")


class TestPages:
    def test_a_reader_sees_why_it_stopped(self, reader: Browser, rollout: Rollout) -> None:
        page = reader.get("/console/rollout/?q=2026.11").content.decode()
        assert "arrêt à 2" in page
        one = reader.get(f"/console/rollout/{rollout.pk}/change/").content.decode()
        assert "1 → 20% → le reste" in one
        first = reader.get("/").content.decode()
        assert "2026.11.2 · arrêté, trop d&#x27;échecs" in first

    @pytest.mark.parametrize(
        ("query", "found"), [("lille", True), ("unhealthy", True), ("2026.11.2", True), ("nowhere", False)]
    )
    def test_boxes_are_searched(self, reader: Browser, rollout: Rollout, query: str, found: bool) -> None:
        page = reader.get(f"/console/rolloutbox/?q={query}").content.decode()
        assert ("laisser passer le trafic" in page) is found

    def test_the_figures_lead_to_the_boxes(self, reader: Browser, rollout: Rollout, box: Box) -> None:
        address = f"/console/rolloutbox/?rollout__id__exact={rollout.pk}&outcome__in=failed,silent,late"
        assert address.replace("&", "&amp;") in reader.get("/console/rollout/").content.decode()
        assert box.pk in reader.get(address).content.decode()

    def test_a_box_s_page_tells_how_far_it_is(self, reader: Browser, box: Box) -> None:
        status = BoxStatus.objects.create(box=box)
        address = f"/console/box/{box.pk}/change/"
        assert "mise à jour" not in reader.get(address).content.decode()
        status.firmware_order, status.firmware_phase, status.firmware_check = 2, "rolled-back", "link"
        status.save()
        page = reader.get(address).content.decode()
        assert "revenu à l&#x27;ancien système" in page
        assert "lien avec le département" in page

    @pytest.mark.parametrize("name", ["rollout", "rolloutbox", "freeze"])
    def test_nobody_edits_them(self, rollout: Rollout, name: str) -> None:
        people.add(Actor("test"), "admin", "administrator", PASSWORD)
        browser = enter("admin")
        assert browser.get(f"/console/{name}/add/").status_code == 403
        row = {"rollout": Rollout, "rolloutbox": RolloutBox, "freeze": Freeze}[name]._default_manager.first()
        assert row is not None
        assert browser.post(f"/console/{name}/{row.pk}/delete/").status_code == 403
        assert "_save" not in browser.get(f"/console/{name}/{row.pk}/change/").content.decode()


class TestWords:
    def test_a_box_s_history(self, box: Box) -> None:
        entry = audit.record(
            audit.ROLLOUT, "firmware.failed", box, firmware="2026.11.2", wave=1, code="unhealthy", check="forward"
        )
        assert words.action(entry.action) == "mise à jour en échec"
        assert history.line(entry) == "2026.11.2, vague 1, un contrôle a échoué, contrôle : laisser passer le trafic"
        signed = audit.record(audit.ROLLOUT, "desired.sign", box, version=7, reason="firmware 2026.11.2")
        assert history.line(signed) == "version 7, logiciel 2026.11.2"

    def test_every_act_has_words(self) -> None:
        for action in (
            *(f"rollout.{name}" for name in ("plan", "start", "pause", "resume", "abort", "wave", "stop", "done")),
            *(
                f"firmware.{name}"
                for name in ("order", "withdraw", "good", "failed", "silent", "late", "absent", "left")
            ),
            *("freeze.add", "freeze.remove"),
        ):
            assert words.action(action) != action


class TestDoctor:
    def findings(self, config: Config) -> list[tuple[bool, str, str]]:
        return [(one.ok, one.text, one.todo) for one in doctor._rollout(config)]

    def test_it_says_that_a_rollout_stopped(self, config: Config, rollout: Rollout) -> None:
        Cursor.objects.create(name=BEAT, updated=timezone.now())
        ((ok, text, todo),) = self.findings(config)
        assert not ok
        assert "arrêt à 2" in text
        assert "rollout resume" in todo

    def test_and_that_nothing_moves_it(self, config: Config, rollout: Rollout) -> None:
        Rollout.objects.update(stage="running", changed=timezone.now() - timedelta(hours=3))
        assert [ok for ok, _text, _todo in self.findings(config)] == [True, False]
        Cursor.objects.create(name=BEAT, updated=timezone.now())
        assert [ok for ok, _text, _todo in self.findings(config)] == [True]

    def test_and_why_orders_wait(self, config: Config, rollout: Rollout) -> None:
        Rollout.objects.update(stage="running")
        detail = {"left": 3, "why": "signer: away", "paced": False}
        Cursor.objects.create(name=BEAT, updated=timezone.now(), detail=detail)
        assert self.findings(config)[1] == (
            False, "3 ordres attendent : signer: away", "Vérifiez vigie-signer et le dépôt, puis rollout tick.",
        )  # fmt: skip
        Cursor.objects.update(detail=detail | {"paced": True})
        assert all(ok for ok, _text, _todo in self.findings(config))

    def test_nothing_to_say(self, config: Config) -> None:
        assert self.findings(config) == [(True, "aucun déploiement en cours", "")]


class TestCommands:
    def run(self, config: Config, *words: str) -> int:
        return cli.main(["--config", str(config.path), "--lang", "fr", "rollout", *words])

    def test_status(self, config: Config, rollout: Rollout, capsys: pytest.CaptureFixture[str], box: Box) -> None:
        assert self.run(config, "status", "--boxes", "--json") == 0
        shown: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert (shown["stage"], shown["not_good"][0]["box"], shown["not_good"][0]["check"]) == (
            "stopped",
            box.pk,
            "forward",
        )
        assert shown["freeze"]["reason"] == "élections"
        assert self.run(config, "status", "--boxes") == 0
        said = capsys.readouterr().out
        assert "2026.11.2 : arrêté, trop d'échecs" in said
        assert "échec" in said

    def test_freezes(self, config: Config, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.run(config, "freeze", "2027-04-09", "2027-04-12", "--why", "présidentielle") == 0
        assert "09/04/2027 – 12/04/2027" in capsys.readouterr().out
        row = Freeze.objects.get()
        assert self.run(config, "freezes") == 0
        assert "présidentielle" in capsys.readouterr().out
        assert self.run(config, "unfreeze", str(row.pk), "--why", "reportée") == 0
        assert list(AuditEntry.objects.values_list("action", flat=True)) == ["freeze.remove", "freeze.add"]
        for wrong in (("unfreeze", "x"), ("unfreeze", "77"), ("freeze", "hier", "demain")):
            assert self.run(config, *wrong, "--why", "x") == 2

    def test_acts_without_a_rollout(self, config: Config, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.run(config, "status") == 0
        assert "aucun déploiement" in capsys.readouterr().out
        assert self.run(config, "tick") == 0
        for act in ("pause", "resume", "abort"):
            assert self.run(config, act, "--why", "x") == 1
        assert self.run(config, "start", "2026.11.2", "--why", "x") == 1
        assert self.run(config, "plan", "2026.11.2", "--why", "x") == 2
        assert "n'est pas dans le dépôt signé" in capsys.readouterr().err
