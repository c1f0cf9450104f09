"""Firmware: rollouts, the boxes in them, the order that stands for each box, and when nothing is updated."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from vigie_department.console.models.fleet import Box


class Rollout(models.Model):
    """A release on its way to the boxes (`vigie_department.rollout`). `plan`: as `rollout.plan.Plan` writes it."""

    class Stage(models.TextChoices):
        """As in `rollout.engine`."""

        PLANNED = "planned", _("prévu")
        RUNNING = "running", _("en cours")
        PAUSED = "paused", _("suspendu")
        STOPPED = "stopped", _("arrêté, trop d'échecs")
        DONE = "done", _("terminé")
        ABORTED = "aborted", _("abandonné")
        SUPERSEDED = "superseded", _("remplacé")

    version = models.CharField(_("version"), max_length=12)
    stage = models.CharField(_("étape"), max_length=12, choices=Stage, default=Stage.PLANNED)
    plan = models.JSONField(_("plan"), default=dict)
    wave = models.PositiveSmallIntegerField(_("vague"), default=0)
    """the highest that has begun, from 0"""
    wave_since = models.DateTimeField(_("vague commencée le"), null=True)
    created = models.DateTimeField(_("prévu le"))
    created_by = models.CharField(_("par"), max_length=150)
    started = models.DateTimeField(_("commencé le"), null=True)
    changed = models.DateTimeField(_("étape depuis le"))
    reason = models.CharField(_("pourquoi"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("déploiement")
        verbose_name_plural = _("déploiements")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                # true for at most one row: what moves boxes
                models.Value(1),
                condition=models.Q(stage__in=("running", "paused", "stopped", "done", "aborted")),
                name="rollout_one_current",
            )
        ]

    def __str__(self) -> str:
        return f"{self.version} · {self.get_stage_display()}"


class RolloutBox(models.Model):
    """A box in a rollout."""

    class Outcome(models.TextChoices):
        """As in `rollout.engine`."""

        WAITING = "waiting", _("attend")
        ORDERED = "ordered", _("en cours")
        GOOD = "good", _("installée")
        FAILED = "failed", _("échec")
        SILENT = "silent", _("muet")
        LATE = "late", _("trop long")
        ABSENT = "absent", _("absent, viendra plus tard")
        LEFT = "left", _("n'est plus en service")

    rollout = models.ForeignKey(
        Rollout, on_delete=models.CASCADE, related_name="members", verbose_name=_("déploiement")
    )
    box = models.ForeignKey(Box, on_delete=models.CASCADE, related_name="rollouts", verbose_name=_("boîtier"))
    wave = models.PositiveSmallIntegerField(_("vague"))
    outcome = models.CharField(_("résultat"), max_length=8, choices=Outcome, default=Outcome.WAITING)
    step = models.CharField(_("version ordonnée"), max_length=12, blank=True)
    order = models.BigIntegerField(_("numéro d'ordre"), default=0)
    ordered = models.DateTimeField(_("ordonné le"), null=True)
    stands = models.BooleanField(_("ordre en vigueur"), default=False)
    forgiven = models.BooleanField(_("échec admis"), default=False)
    code = models.CharField(_("code"), max_length=24, blank=True)
    health = models.CharField(_("contrôle échoué"), max_length=12, blank=True)
    changed = models.DateTimeField(_("depuis le"))

    class Meta:
        verbose_name = _("boîtier d'un déploiement")
        verbose_name_plural = _("boîtiers des déploiements")
        ordering: ClassVar = ["-rollout", "wave", "box"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["rollout", "box"], name="rollout_box_once")]

    def __str__(self) -> str:
        return f"{self.box_id} · {self.rollout.version}"


class FirmwareOrder(models.Model):
    """The release that a box's document names; empty once it was taken back. The number only rises."""

    box = models.OneToOneField(Box, on_delete=models.CASCADE, primary_key=True, related_name="firmware")
    version = models.CharField(_("version"), max_length=12, blank=True)
    order = models.BigIntegerField(_("numéro d'ordre"))
    changed = models.DateTimeField(_("depuis le"))

    def __str__(self) -> str:
        return f"{self.box_id} : {self.version or '-'}"


class Freeze(models.Model):
    """Days on which no box is told to update: elections. Both days included, in the department's time zone."""

    first = models.DateField(_("du"))
    last = models.DateField(_("au"))
    reason = models.CharField(_("pourquoi"), max_length=200)
    created = models.DateTimeField(_("décidé le"))
    created_by = models.CharField(_("par"), max_length=150)
    removed = models.DateTimeField(_("annulé le"), null=True)
    removed_by = models.CharField(_("annulé par"), max_length=150, blank=True)

    class Meta:
        verbose_name = _("gel des mises à jour")
        verbose_name_plural = _("gels des mises à jour")
        ordering: ClassVar = ["-first"]

    def __str__(self) -> str:
        return f"{self.first:%d/%m/%Y} – {self.last:%d/%m/%Y}"
