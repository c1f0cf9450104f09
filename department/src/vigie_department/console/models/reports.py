"""What boxes report: alerts, hourly counters, candidate counts, requests, diagnostics.

Rows are written by the ingest and never changed by people, but for an alert being marked as dealt with.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from vigie_department.console.models.fleet import Box


class Report(models.Model):
    """What every message of the outbox carries."""

    box = models.ForeignKey(Box, on_delete=models.CASCADE, verbose_name=_("boîtier"))
    boot = models.CharField(max_length=32)
    seq = models.BigIntegerField()
    received = models.DateTimeField(_("reçu le"), db_index=True)

    class Meta:
        abstract = True


class Alert(Report):
    """A block or a behaviour that a box reported. `first` and `last` are rounded to the hour outside incidents.

    An alert that goes on is reported again under the same number with a growing count: the row follows, so `seq` is the
    latest. (box, boot, number) is unique: a box that was wiped counts from 1 again, in another boot.
    """

    class Severity(models.IntegerChoices):
        """As in the contract."""

        INFO = 0, _("information")
        LOW = 1, _("faible")
        MEDIUM = 2, _("moyenne")
        CRITICAL = 3, _("critique")

    alert_id = models.BigIntegerField(_("numéro sur le boîtier"))
    sent = models.DateTimeField(_("envoyé le"))
    clock = models.CharField(_("horloge"), max_length=8)
    rule = models.CharField(_("règle"), max_length=40)
    reason = models.IntegerField(_("motif"))
    severity = models.SmallIntegerField(_("gravité"), choices=Severity)
    category = models.IntegerField(_("catégorie"))
    direction = models.SmallIntegerField(_("sens"))
    indicator = models.CharField(_("indicateur"), max_length=260, null=True)
    device = models.CharField(_("appareil"), max_length=18, null=True)
    device_class = models.IntegerField(_("type d'appareil"))
    count = models.BigIntegerField(_("nombre"))
    first = models.DateTimeField(_("première fois"))
    last = models.DateTimeField(_("dernière fois"))
    incident = models.BooleanField(_("incident"), default=False)
    handled = models.DateTimeField(_("traitée le"), null=True)
    handled_by = models.CharField(_("par"), max_length=150, blank=True)

    class Meta:
        verbose_name = _("alerte")
        verbose_name_plural = _("alertes")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["box", "boot", "alert_id"], name="alert_once")]
        indexes: ClassVar = [
            models.Index(fields=["box", "-received"], name="alert_box"),
            models.Index(fields=["indicator"], name="alert_indicator"),
        ]

    def __str__(self) -> str:
        return f"{self.box_id} · {self.rule}"


class Counter(models.Model):
    """One number of one box for one hour. `blocked:<reason>`, `frames_in` and `frames_out` in thousands, `drops`."""

    box = models.ForeignKey(Box, on_delete=models.CASCADE, verbose_name=_("boîtier"))
    hour = models.DateTimeField(_("heure"), db_index=True)
    name = models.CharField(_("compteur"), max_length=40)
    value = models.BigIntegerField(_("valeur"))

    class Meta:
        verbose_name = _("compteur")
        verbose_name_plural = _("compteurs")
        ordering: ClassVar = ["-hour", "name"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["box", "hour", "name"], name="counter_once")]

    def __str__(self) -> str:
        return f"{self.box_id} {self.hour:%Y-%m-%d %H} {self.name}"


class Observation(models.Model):
    """How often a box that tries a candidate base met one of its new indicators. Shown from 3 communes up only."""

    box = models.ForeignKey(Box, on_delete=models.CASCADE, verbose_name=_("boîtier"))
    candidate = models.BigIntegerField(_("base à l'essai"))
    indicator = models.CharField(_("indicateur"), max_length=260)
    count = models.BigIntegerField(_("nombre"))
    last = models.DateTimeField(_("dernière fois"), db_index=True)

    class Meta:
        verbose_name = _("observation")
        verbose_name_plural = _("observations")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["box", "candidate", "indicator"], name="observation_once")
        ]
        indexes: ClassVar = [models.Index(fields=["candidate", "indicator"], name="observation_candidate")]

    def __str__(self) -> str:
        return f"{self.candidate} {self.indicator}"


class ExceptionRequest(Report):
    """An exception that a mairie asks for, with the words that it agreed to send."""

    class State(models.TextChoices):
        """What became of it."""

        OPEN = "open", _("à traiter")
        GRANTED = "granted", _("accordée")
        REFUSED = "refused", _("refusée")

    indicator = models.CharField(_("indicateur"), max_length=260)
    device = models.CharField(_("appareil"), max_length=18, null=True)
    days = models.IntegerField(_("jours"))
    words = models.TextField(_("message"), blank=True)
    consent = models.DateTimeField(_("accord donné le"))
    consent_by = models.CharField(_("par"), max_length=40)
    state = models.CharField(_("état"), max_length=8, choices=State, default=State.OPEN)
    answered = models.DateTimeField(_("répondu le"), null=True)
    answered_by = models.CharField(_("par"), max_length=150, blank=True)

    class Meta:
        verbose_name = _("demande d'exception")
        verbose_name_plural = _("demandes d'exception")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["box", "boot", "seq"], name="request_once")]

    def __str__(self) -> str:
        return f"{self.box_id} · {self.indicator}"


class Diagnostic(Report):
    """What a box sent on a `diagnostics` command, with the mairie's consent, already redacted by the box."""

    command = models.CharField(_("commande"), max_length=32)
    consent = models.DateTimeField(_("accord donné le"))
    items = models.JSONField(_("contenu"))

    class Meta:
        verbose_name = _("diagnostic")
        verbose_name_plural = _("diagnostics")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["box", "boot", "seq"], name="diagnostic_once")]

    def __str__(self) -> str:
        return f"{self.box_id} · {self.received:%Y-%m-%d}"
