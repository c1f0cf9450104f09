"""What the department wants: exceptions, protections, isolation, the documents signed from them, commands, bases."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from vigie_department.console.models.fleet import Box, Commune


class Scoped(models.Model):
    """A rule for one box, for the box of a commune (it follows a replacement), or for all when both are empty."""

    box = models.ForeignKey(Box, on_delete=models.CASCADE, null=True, blank=True, verbose_name=_("boîtier"))
    commune = models.ForeignKey(Commune, on_delete=models.CASCADE, null=True, blank=True, verbose_name=_("commune"))
    created = models.DateTimeField(_("créée le"))
    created_by = models.CharField(_("par"), max_length=150)

    class Meta:
        abstract = True


class PolicyException(Scoped):
    """A scoped, expiring rule that goes before the toxic base."""

    class Action(models.TextChoices):
        """As in the contract."""

        ALLOW = "allow", _("laisser passer")
        OBSERVE = "observe", _("observer")
        BLOCK = "block", _("bloquer")

    action = models.CharField(_("action"), max_length=8, choices=Action)
    target = models.CharField(_("cible"), max_length=260, help_text=_("Nom de domaine, adresse ou préfixe"))
    device = models.CharField(
        _("appareil"), max_length=18, blank=True, help_text=_("Pseudonyme « d-… » d'une alerte ; vide : tous")
    )
    proto = models.CharField(
        _("protocole"), max_length=4, blank=True, choices=[("", _("tous")), ("tcp", "TCP"), ("udp", "UDP")]
    )
    port = models.PositiveIntegerField(_("port"), null=True, blank=True)
    until = models.DateTimeField(_("jusqu'au"))
    note = models.CharField(_("pourquoi"), max_length=100)
    removed = models.DateTimeField(_("retirée le"), null=True, blank=True)
    removed_by = models.CharField(_("retirée par"), max_length=150, blank=True)

    class Meta:
        verbose_name = _("exception")
        verbose_name_plural = _("exceptions")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(box=None) | Q(commune=None), name="exception_one_scope")
        ]

    def __str__(self) -> str:
        return f"{self.get_action_display()} {self.target}"


class NeverBlock(Scoped):
    """A name or address that no base may block, beside those built into the box."""

    target = models.CharField(_("nom ou adresse"), max_length=260)
    note = models.CharField(_("pourquoi"), max_length=200)

    class Meta:
        verbose_name = _("jamais bloqué")
        verbose_name_plural = _("jamais bloqués")
        ordering: ClassVar = ["target"]

    def __str__(self) -> str:
        return self.target


class EssentialService(Scoped):
    """A service that stays reachable at isolation level 2. Rank 0 first, 9 last."""

    name = models.CharField(_("nom ou adresse"), max_length=253)
    rank = models.PositiveSmallIntegerField(_("rang"), default=5, validators=[MaxValueValidator(9)])
    note = models.CharField(_("pourquoi"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("service essentiel")
        verbose_name_plural = _("services essentiels")
        ordering: ClassVar = ["rank", "name"]

    def __str__(self) -> str:
        return self.name


class Temporary(models.Model):
    """An order on one box that ends by itself, or earlier when it is lifted."""

    box = models.ForeignKey(Box, on_delete=models.CASCADE, verbose_name=_("boîtier"))
    until = models.DateTimeField(_("jusqu'au"))
    reason = models.CharField(_("pourquoi"), max_length=200)
    mass = models.CharField(_("ordre groupé"), max_length=32, blank=True)
    created = models.DateTimeField(_("ordonné le"))
    created_by = models.CharField(_("par"), max_length=150)
    lifted = models.DateTimeField(_("levé le"), null=True)
    lifted_by = models.CharField(_("levé par"), max_length=150, blank=True)

    class Meta:
        abstract = True


class Isolation(Temporary):
    """Isolation level ordered for a box. From level 2 it lasts 4 hours at most."""

    level = models.PositiveSmallIntegerField(
        _("niveau"), choices=[(1, _("1 : vigilance")), (2, _("2 : services essentiels")), (3, _("3 : coupé"))]
    )

    class Meta:
        verbose_name = _("isolement")
        verbose_name_plural = _("isolements")
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.box_id} : {self.level}"


class Quarantine(Temporary):
    """One device of a box cut off, named by its pseudonym."""

    device = models.CharField(_("appareil"), max_length=18)

    class Meta:
        verbose_name = _("quarantaine")
        verbose_name_plural = _("quarantaines")
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.box_id} : {self.device}"


class DesiredState(models.Model):
    """A signed document, as sent. The newest version of a box is the one that counts."""

    box = models.ForeignKey(Box, on_delete=models.CASCADE, related_name="documents", verbose_name=_("boîtier"))
    version = models.BigIntegerField(_("version"))
    issued = models.DateTimeField(_("émis le"))
    expires = models.DateTimeField(_("expire le"))
    payload = models.JSONField(_("contenu"))
    envelope = models.BinaryField()
    digest = models.CharField(max_length=64)
    """SHA-256 of the content without version and dates: the same content is not signed twice"""
    operator = models.CharField(_("par"), max_length=150)
    reason = models.CharField(_("pourquoi"), max_length=200, blank=True)
    answered = models.DateTimeField(_("réponse le"), null=True)
    result = models.CharField(_("résultat"), max_length=12, blank=True)
    code = models.CharField(_("code"), max_length=40, blank=True)
    detail = models.JSONField(_("détail"), default=list)

    class Meta:
        verbose_name = _("document d'ordres")
        verbose_name_plural = _("documents d'ordres")
        ordering: ClassVar = ["-issued", "-version"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["box", "version"], name="desired_once")]
        indexes: ClassVar = [models.Index(fields=["expires"], name="desired_expires")]

    def __str__(self) -> str:
        return f"{self.box_id} v{self.version}"


def command_id() -> str:
    """A new identifier: 32 hexadecimal digits."""
    return uuid.uuid4().hex


class Command(models.Model):
    """A signed command and its answer."""

    class State(models.TextChoices):
        """`expired`, `refused`, `done` and `failed` are the box's words; `silent` is ours: its time passed."""

        SENT = "sent", _("envoyée")
        DONE = "done", _("faite")
        FAILED = "failed", _("échouée")
        REFUSED = "refused", _("refusée")
        EXPIRED = "expired", _("expirée")
        SILENT = "silent", _("sans réponse")

    id = models.CharField(_("numéro"), max_length=32, primary_key=True, default=command_id)
    box = models.ForeignKey(Box, on_delete=models.CASCADE, related_name="commands", verbose_name=_("boîtier"))
    op = models.CharField(_("commande"), max_length=20)
    args = models.JSONField(_("paramètres"), default=dict)
    issued = models.DateTimeField(_("émise le"))
    expires = models.DateTimeField(_("expire le"))
    envelope = models.BinaryField()
    operator = models.CharField(_("par"), max_length=150)
    state = models.CharField(_("état"), max_length=8, choices=State, default=State.SENT)
    answered = models.DateTimeField(_("réponse le"), null=True)
    code = models.CharField(_("code"), max_length=40, blank=True)
    detail = models.JSONField(_("détail"), default=list)

    class Meta:
        verbose_name = _("commande")
        verbose_name_plural = _("commandes")
        ordering: ClassVar = ["-issued"]

    def __str__(self) -> str:
        return f"{self.box_id} · {self.op}"


class BaseRelease(models.Model):
    """A toxic base and how far it went. Written by the publisher (`vigie_department.base`)."""

    class Stage(models.TextChoices):
        """A base goes down this list; it may leave it at any step."""

        PREPARED = "prepared", _("préparée")
        WAITING = "waiting", _("attend un second opérateur")
        CANDIDATE = "candidate", _("à l'essai")
        WAVE = "wave", _("première vague")
        ALL = "all", _("publiée partout")
        SUPERSEDED = "superseded", _("remplacée")
        STOPPED = "stopped", _("arrêtée")
        REVERTED = "reverted", _("annulée")

    version = models.BigIntegerField(_("version"), unique=True)
    stage = models.CharField(_("étape"), max_length=16, choices=Stage, default=Stage.PREPARED)
    stage_since = models.DateTimeField(_("depuis le"))
    created = models.DateTimeField(_("construite le"))
    sha256 = models.CharField(max_length=64)
    length = models.BigIntegerField(_("taille"))
    candidate_version = models.BigIntegerField(_("version à l'essai"), null=True)
    candidate_sha256 = models.CharField(max_length=64, blank=True)
    candidate_length = models.BigIntegerField(null=True)
    previous_version = models.BigIntegerField(_("remplace"), null=True)
    reverts = models.BigIntegerField(_("annule"), null=True)
    emergency = models.BooleanField(_("en urgence"), default=False)
    approval = models.CharField(_("accord"), max_length=64, blank=True)
    operator = models.CharField(_("par"), max_length=150)
    note = models.TextField(_("pourquoi"), blank=True)
    report = models.JSONField(_("changements"), default=dict)
    """what the compiler and each wave showed"""

    class Meta:
        verbose_name = _("base toxique")
        verbose_name_plural = _("bases toxiques")
        ordering: ClassVar = ["-version"]

    def __str__(self) -> str:
        return str(self.version)
