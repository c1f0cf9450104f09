"""The department's own records: who did what, what goes to boxes, what has been received."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _


class AuditEntry(models.Model):
    """Who did what, on what, when. Append only: the database itself refuses changes, and deletion before 180 days."""

    at = models.DateTimeField(_("le"), db_index=True)
    actor = models.CharField(_("qui"), max_length=150)
    address = models.GenericIPAddressField(_("depuis"), null=True)
    action = models.CharField(_("quoi"), max_length=40, db_index=True)
    kind = models.CharField(_("type d'objet"), max_length=40, blank=True)
    object_id = models.CharField(_("objet"), max_length=64, blank=True)
    box = models.CharField(_("boîtier"), max_length=19, blank=True, db_index=True)
    """identifier and not a foreign key: the entry stays when the box is forgotten"""
    detail = models.JSONField(_("détail"), default=dict)

    class Meta:
        verbose_name = _("entrée du journal")
        verbose_name_plural = _("journal des actions")
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.actor} {self.action}"


class Outgoing(models.Model):
    """A message for the broker. The ingest process, which owns the department's session, publishes it."""

    topic = models.CharField(max_length=120)
    payload = models.BinaryField()
    retain = models.BooleanField(default=False)
    response_topic = models.CharField(max_length=120, blank=True)
    correlation = models.CharField(max_length=64, blank=True)
    expiry_s = models.PositiveIntegerField(null=True)
    created = models.DateTimeField()
    sent = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("message sortant")
        verbose_name_plural = _("messages sortants")
        ordering: ClassVar = ["id"]
        indexes: ClassVar = [
            models.Index(fields=["id"], name="outgoing_waiting", condition=models.Q(sent=None)),
            models.Index(fields=["sent"], name="outgoing_sent"),
        ]

    def __str__(self) -> str:
        return self.topic


class Receipt(models.Model):
    """How far one boot of one box has been received and committed.

    `upto`: everything the box sent up to this seq is committed. `beyond`: seqs committed after a gap (bounded), which
    `upto` jumps over once the gap is filled.
    """

    box = models.CharField(max_length=19)
    boot = models.CharField(max_length=32)
    upto = models.BigIntegerField(default=0)
    beyond = models.JSONField(default=list)
    updated = models.DateTimeField()

    class Meta:
        verbose_name = _("accusé de réception")
        verbose_name_plural = _("accusés de réception")
        constraints: ClassVar = [models.UniqueConstraint(fields=["box", "boot"], name="receipt_once")]

    def __str__(self) -> str:
        return f"{self.box} {self.boot} {self.upto}"


class Aside(models.Model):
    """A message that could not be read, kept for an engineer. Bounded in number and in size."""

    at = models.DateTimeField(_("le"), db_index=True)
    topic = models.CharField(_("sujet"), max_length=200)
    payload = models.BinaryField(_("contenu"))
    size = models.IntegerField(_("taille"))
    reason = models.CharField(_("pourquoi"), max_length=300)

    class Meta:
        verbose_name = _("message écarté")
        verbose_name_plural = _("messages écartés")
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.topic} : {self.reason}"


class Cursor(models.Model):
    """A named number or mark that a process keeps: last event of the authority, last sign of life."""

    name = models.CharField(max_length=40, primary_key=True)
    value = models.BigIntegerField(default=0)
    detail = models.JSONField(default=dict)
    updated = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} {self.value}"
