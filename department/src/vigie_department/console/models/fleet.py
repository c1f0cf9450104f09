"""Who is who: communes, boxes, their certificates, and how each box says it is."""

from __future__ import annotations

from typing import ClassVar

from django.core.validators import RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

insee = RegexValidator(r"^(\d{5}|2[AB]\d{3})\Z", _("Un code INSEE a cinq caractères, par exemple 59350 ou 2A004."))


class Commune(models.Model):
    """A town hall that has, had or will have a box."""

    insee = models.CharField(_("code INSEE"), max_length=5, unique=True, validators=[insee])
    name = models.CharField(_("nom"), max_length=120)
    epci = models.CharField(_("EPCI"), max_length=160, blank=True)
    contact_name = models.CharField(_("interlocuteur"), max_length=120, blank=True)
    contact_phone = models.CharField(_("téléphone"), max_length=40, blank=True)
    contact_email = models.EmailField(_("courriel"), blank=True)
    opening = models.CharField(
        _("heures d'ouverture"), max_length=200, blank=True, help_text=_("Par exemple : lu-ve 09:00-12:00 14:00-17:00")
    )
    volunteer = models.BooleanField(
        _("essaie les nouvelles bases"),
        default=False,
        help_text=_("La commune a accepté d'essayer chaque nouvelle base en observation, sans rien bloquer de plus."),
    )
    notes = models.TextField(_("notes"), blank=True)

    class Meta:
        verbose_name = _("commune")
        verbose_name_plural = _("communes")
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return f"{self.name} ({self.insee})"


class Box(models.Model):
    """One boîtier, from the register of purchased boxes to its end. Its history is its audit entries."""

    class State(models.TextChoices):
        """Where the box is in its life, as the authority sees it."""

        REGISTERED = "registered", _("enregistré, jamais branché")
        PENDING = "pending", _("inscription en cours")
        ACTIVE = "active", _("inscrit")
        CONFLICT = "conflict", _("en conflit : à débloquer")
        CLONE = "clone", _("deux boîtiers pour une identité")
        BLOCKED = "blocked", _("bloqué")
        REVOKED = "revoked", _("révoqué")
        REPLACED = "replaced", _("remplacé")
        DECOMMISSIONED = "decommissioned", _("mis hors service")
        UNKNOWN = "unknown", _("absent du registre")

    id = models.CharField(_("identifiant"), max_length=19, primary_key=True)
    serial = models.CharField(_("numéro de série"), max_length=64, unique=True, null=True)
    claim_id = models.CharField(_("code d'étiquette"), max_length=32, unique=True, null=True)
    model = models.CharField(_("modèle"), max_length=40, blank=True)
    lot = models.CharField(_("lot"), max_length=40, blank=True)
    warranty_until = models.DateField(_("garantie jusqu'au"), null=True, blank=True)
    location = models.CharField(_("emplacement"), max_length=160, blank=True)
    spare = models.BooleanField(_("de rechange"), default=False)
    commune = models.ForeignKey(
        Commune, on_delete=models.PROTECT, null=True, blank=True, related_name="boxes", verbose_name=_("commune")
    )
    state = models.CharField(_("état"), max_length=16, choices=State, default=State.REGISTERED)
    replaced_by = models.OneToOneField(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="replaces", verbose_name=_("remplacé par")
    )
    inbound = models.CharField(
        _("connexions entrantes"),
        max_length=8,
        blank=True,
        choices=[("", _("comme prévu sur le boîtier")), ("learn", _("apprendre")), ("refuse", _("refuser"))],
    )
    notes = models.TextField(_("notes"), blank=True)
    registered = models.DateTimeField(_("enregistré le"), null=True)
    enrolled = models.DateTimeField(_("inscrit le"), null=True)

    class Meta:
        verbose_name = _("boîtier")
        verbose_name_plural = _("boîtiers")
        ordering: ClassVar = ["commune__name", "id"]
        permissions: ClassVar = [
            ("release_box", _("Peut débloquer un boîtier en conflit")),
            ("revoke_box", _("Peut révoquer ou remplacer un boîtier")),
            ("isolate_box", _("Peut isoler un boîtier ou mettre un appareil en quarantaine")),
            ("command_box", _("Peut envoyer une commande à un boîtier")),
        ]

    def __str__(self) -> str:
        return f"{self.id} · {self.commune.name}" if self.commune else self.id

    @property
    def serving(self) -> bool:
        """True while orders make sense for it."""
        return self.state in (self.State.ACTIVE, self.State.PENDING)


class BoxStatus(models.Model):
    """What the box last said of itself (contract: state). Apart from Box: it changes all the time."""

    box = models.OneToOneField(Box, on_delete=models.CASCADE, primary_key=True, related_name="status")
    online = models.BooleanField(_("en ligne"), default=False)
    session = models.BigIntegerField(default=0)
    state_seq = models.BigIntegerField(default=0)
    """the latest (session, state_seq) wins"""
    seen = models.DateTimeField(_("vu le"), null=True)
    base_version = models.BigIntegerField(_("base"), null=True)
    base_entries = models.BigIntegerField(_("indicateurs"), null=True)
    candidate = models.BigIntegerField(_("base à l'essai"), null=True)
    desired_version = models.BigIntegerField(_("ordres reçus"), null=True)
    desired_status = models.CharField(_("état des ordres"), max_length=12, blank=True)
    desired_refused = models.CharField(_("ordres refusés"), max_length=40, blank=True)
    isolation = models.SmallIntegerField(_("isolement"), default=0)
    quarantined = models.IntegerField(_("appareils en quarantaine"), default=0)
    exceptions = models.IntegerField(_("exceptions en vigueur"), default=0)
    inbound = models.CharField(_("connexions entrantes"), max_length=8, blank=True)
    filter = models.CharField(_("filtrage"), max_length=10, blank=True)
    version = models.CharField(_("version du logiciel"), max_length=64, blank=True)
    uptime_s = models.BigIntegerField(_("en marche depuis (s)"), null=True)
    disk_free_mb = models.BigIntegerField(_("disque libre (Mo)"), null=True)
    mem_free_mb = models.BigIntegerField(_("mémoire libre (Mo)"), null=True)
    load = models.FloatField(_("charge"), null=True)
    roles_known = models.BooleanField(_("sens des câbles connu"), null=True)
    losses = models.BigIntegerField(_("lignes perdues"), default=0)
    # of `state.firmware`; empty while the box had no order
    firmware_version = models.CharField(_("mise à jour ordonnée"), max_length=12, blank=True, default="")
    firmware_order = models.BigIntegerField(_("numéro de son ordre"), default=0)
    firmware_phase = models.CharField(_("mise à jour"), max_length=12, blank=True, default="")
    firmware_code = models.CharField(_("code de mise à jour"), max_length=24, blank=True, default="")
    firmware_check = models.CharField(_("contrôle échoué"), max_length=12, blank=True, default="")
    firmware_tries = models.IntegerField(_("essais échoués"), default=0)
    firmware_floor = models.CharField(_("version minimale"), max_length=12, blank=True, default="")

    class Meta:
        verbose_name = _("état")
        verbose_name_plural = _("états")
        indexes: ClassVar = [models.Index(fields=["base_version"], name="status_base")]

    def __str__(self) -> str:
        return self.box_id


class Certificate(models.Model):
    """One certificate issued to a box. The authority keeps the certificate itself."""

    class State(models.TextChoices):
        """Two-phase activation: issued, then confirmed by the box, then in its turn replaced."""

        PENDING = "pending", _("délivré")
        ACTIVE = "active", _("en service")
        SUPERSEDED = "superseded", _("remplacé")
        REVOKED = "revoked", _("révoqué")

    box = models.ForeignKey(Box, on_delete=models.CASCADE, related_name="certificates", verbose_name=_("boîtier"))
    number = models.CharField(_("numéro"), max_length=40, unique=True)
    state = models.CharField(_("état"), max_length=12, choices=State, default=State.PENDING)
    not_before = models.DateTimeField(_("valable du"), null=True)
    not_after = models.DateTimeField(_("au"), null=True)
    issued = models.DateTimeField(_("délivré le"))
    ended = models.DateTimeField(_("fini le"), null=True)
    reason = models.CharField(_("raison"), max_length=120, blank=True)

    class Meta:
        verbose_name = _("certificat")
        verbose_name_plural = _("certificats")
        ordering: ClassVar = ["-issued"]

    def __str__(self) -> str:
        return self.number


class Claim(models.Model):
    """A label's code that was given to a commune before the box was in the register."""

    claim_id = models.CharField(_("code d'étiquette"), max_length=32, unique=True)
    commune = models.ForeignKey(Commune, on_delete=models.CASCADE, related_name="claims", verbose_name=_("commune"))
    at = models.DateTimeField(_("attribué le"))
    by = models.CharField(_("par"), max_length=150)

    class Meta:
        verbose_name = _("attribution en attente")
        verbose_name_plural = _("attributions en attente")

    def __str__(self) -> str:
        return f"{self.claim_id} → {self.commune}"
