"""Tables (made by `makemigrations`)."""
# ruff: noqa: RUF012, E501 - as Django writes it

import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

import vigie_department.console.models.orders


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Aside",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(db_index=True, verbose_name="le")),
                ("topic", models.CharField(max_length=200, verbose_name="sujet")),
                ("payload", models.BinaryField(verbose_name="contenu")),
                ("size", models.IntegerField(verbose_name="taille")),
                ("reason", models.CharField(max_length=300, verbose_name="pourquoi")),
            ],
            options={
                "verbose_name": "message écarté",
                "verbose_name_plural": "messages écartés",
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(db_index=True, verbose_name="le")),
                ("actor", models.CharField(max_length=150, verbose_name="qui")),
                ("address", models.GenericIPAddressField(null=True, verbose_name="depuis")),
                ("action", models.CharField(db_index=True, max_length=40, verbose_name="quoi")),
                ("kind", models.CharField(blank=True, max_length=40, verbose_name="type d'objet")),
                ("object_id", models.CharField(blank=True, max_length=64, verbose_name="objet")),
                ("box", models.CharField(blank=True, db_index=True, max_length=19, verbose_name="boîtier")),
                ("detail", models.JSONField(default=dict, verbose_name="détail")),
            ],
            options={
                "verbose_name": "entrée du journal",
                "verbose_name_plural": "journal des actions",
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="BaseRelease",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("version", models.BigIntegerField(unique=True, verbose_name="version")),
                (
                    "stage",
                    models.CharField(
                        choices=[
                            ("prepared", "préparée"),
                            ("waiting", "attend un second opérateur"),
                            ("candidate", "à l'essai"),
                            ("wave", "première vague"),
                            ("all", "publiée partout"),
                            ("superseded", "remplacée"),
                            ("stopped", "arrêtée"),
                            ("reverted", "annulée"),
                        ],
                        default="prepared",
                        max_length=16,
                        verbose_name="étape",
                    ),
                ),
                ("stage_since", models.DateTimeField(verbose_name="depuis le")),
                ("created", models.DateTimeField(verbose_name="construite le")),
                ("sha256", models.CharField(max_length=64)),
                ("length", models.BigIntegerField(verbose_name="taille")),
                ("candidate_version", models.BigIntegerField(null=True, verbose_name="version à l'essai")),
                ("candidate_sha256", models.CharField(blank=True, max_length=64)),
                ("candidate_length", models.BigIntegerField(null=True)),
                ("previous_version", models.BigIntegerField(null=True, verbose_name="remplace")),
                ("reverts", models.BigIntegerField(null=True, verbose_name="annule")),
                ("emergency", models.BooleanField(default=False, verbose_name="en urgence")),
                ("approval", models.CharField(blank=True, max_length=64, verbose_name="accord")),
                ("operator", models.CharField(max_length=150, verbose_name="par")),
                ("note", models.TextField(blank=True, verbose_name="pourquoi")),
                ("report", models.JSONField(default=dict, verbose_name="changements")),
            ],
            options={
                "verbose_name": "base toxique",
                "verbose_name_plural": "bases toxiques",
                "ordering": ["-version"],
            },
        ),
        migrations.CreateModel(
            name="Box",
            fields=[
                ("id", models.CharField(max_length=19, primary_key=True, serialize=False, verbose_name="identifiant")),
                ("serial", models.CharField(max_length=64, null=True, unique=True, verbose_name="numéro de série")),
                ("claim_id", models.CharField(max_length=32, null=True, unique=True, verbose_name="code d'étiquette")),
                ("model", models.CharField(blank=True, max_length=40, verbose_name="modèle")),
                ("lot", models.CharField(blank=True, max_length=40, verbose_name="lot")),
                ("warranty_until", models.DateField(blank=True, null=True, verbose_name="garantie jusqu'au")),
                ("location", models.CharField(blank=True, max_length=160, verbose_name="emplacement")),
                ("spare", models.BooleanField(default=False, verbose_name="de rechange")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("registered", "enregistré, jamais branché"),
                            ("pending", "inscription en cours"),
                            ("active", "inscrit"),
                            ("conflict", "en conflit : à débloquer"),
                            ("clone", "deux boîtiers pour une identité"),
                            ("blocked", "bloqué"),
                            ("revoked", "révoqué"),
                            ("replaced", "remplacé"),
                            ("decommissioned", "mis hors service"),
                            ("unknown", "absent du registre"),
                        ],
                        default="registered",
                        max_length=16,
                        verbose_name="état",
                    ),
                ),
                (
                    "inbound",
                    models.CharField(
                        blank=True,
                        choices=[("", "comme prévu sur le boîtier"), ("learn", "apprendre"), ("refuse", "refuser")],
                        max_length=8,
                        verbose_name="connexions entrantes",
                    ),
                ),
                ("notes", models.TextField(blank=True, verbose_name="notes")),
                ("registered", models.DateTimeField(null=True, verbose_name="enregistré le")),
                ("enrolled", models.DateTimeField(null=True, verbose_name="inscrit le")),
                (
                    "replaced_by",
                    models.OneToOneField(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="replaces",
                        to="console.box",
                        verbose_name="remplacé par",
                    ),
                ),
            ],
            options={
                "verbose_name": "boîtier",
                "verbose_name_plural": "boîtiers",
                "ordering": ["commune__name", "id"],
                "permissions": [
                    ("release_box", "Peut débloquer un boîtier en conflit"),
                    ("revoke_box", "Peut révoquer ou remplacer un boîtier"),
                    ("isolate_box", "Peut isoler un boîtier ou mettre un appareil en quarantaine"),
                    ("command_box", "Peut envoyer une commande à un boîtier"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Commune",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "insee",
                    models.CharField(
                        max_length=5,
                        unique=True,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^(\\d{5}|2[AB]\\d{3})\\Z",
                                "Un code INSEE a cinq caractères, par exemple 59350 ou 2A004.",
                            )
                        ],
                        verbose_name="code INSEE",
                    ),
                ),
                ("name", models.CharField(max_length=120, verbose_name="nom")),
                ("epci", models.CharField(blank=True, max_length=160, verbose_name="EPCI")),
                ("contact_name", models.CharField(blank=True, max_length=120, verbose_name="interlocuteur")),
                ("contact_phone", models.CharField(blank=True, max_length=40, verbose_name="téléphone")),
                ("contact_email", models.EmailField(blank=True, max_length=254, verbose_name="courriel")),
                (
                    "opening",
                    models.CharField(
                        blank=True,
                        help_text="Par exemple : lu-ve 09:00-12:00 14:00-17:00",
                        max_length=200,
                        verbose_name="heures d'ouverture",
                    ),
                ),
                (
                    "volunteer",
                    models.BooleanField(
                        default=False,
                        help_text="La commune a accepté d'essayer chaque nouvelle base en observation, sans rien bloquer de plus.",
                        verbose_name="essaie les nouvelles bases",
                    ),
                ),
                ("notes", models.TextField(blank=True, verbose_name="notes")),
            ],
            options={
                "verbose_name": "commune",
                "verbose_name_plural": "communes",
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Cursor",
            fields=[
                ("name", models.CharField(max_length=40, primary_key=True, serialize=False)),
                ("value", models.BigIntegerField(default=0)),
                ("detail", models.JSONField(default=dict)),
                ("updated", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="Certificate",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.CharField(max_length=40, unique=True, verbose_name="numéro")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "délivré"),
                            ("active", "en service"),
                            ("superseded", "remplacé"),
                            ("revoked", "révoqué"),
                        ],
                        default="pending",
                        max_length=12,
                        verbose_name="état",
                    ),
                ),
                ("not_before", models.DateTimeField(null=True, verbose_name="valable du")),
                ("not_after", models.DateTimeField(null=True, verbose_name="au")),
                ("issued", models.DateTimeField(verbose_name="délivré le")),
                ("ended", models.DateTimeField(null=True, verbose_name="fini le")),
                ("reason", models.CharField(blank=True, max_length=120, verbose_name="raison")),
                (
                    "box",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="certificates",
                        to="console.box",
                        verbose_name="boîtier",
                    ),
                ),
            ],
            options={
                "verbose_name": "certificat",
                "verbose_name_plural": "certificats",
                "ordering": ["-issued"],
            },
        ),
        migrations.CreateModel(
            name="Command",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=vigie_department.console.models.orders.command_id,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                        verbose_name="numéro",
                    ),
                ),
                ("op", models.CharField(max_length=20, verbose_name="commande")),
                ("args", models.JSONField(default=dict, verbose_name="paramètres")),
                ("issued", models.DateTimeField(verbose_name="émise le")),
                ("expires", models.DateTimeField(verbose_name="expire le")),
                ("envelope", models.BinaryField()),
                ("operator", models.CharField(max_length=150, verbose_name="par")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("sent", "envoyée"),
                            ("done", "faite"),
                            ("failed", "échouée"),
                            ("refused", "refusée"),
                            ("expired", "expirée"),
                            ("silent", "sans réponse"),
                        ],
                        default="sent",
                        max_length=8,
                        verbose_name="état",
                    ),
                ),
                ("answered", models.DateTimeField(null=True, verbose_name="réponse le")),
                ("code", models.CharField(blank=True, max_length=40, verbose_name="code")),
                ("detail", models.JSONField(default=list, verbose_name="détail")),
                (
                    "box",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="commands",
                        to="console.box",
                        verbose_name="boîtier",
                    ),
                ),
            ],
            options={
                "verbose_name": "commande",
                "verbose_name_plural": "commandes",
                "ordering": ["-issued"],
            },
        ),
        migrations.CreateModel(
            name="Claim",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("claim_id", models.CharField(max_length=32, unique=True, verbose_name="code d'étiquette")),
                ("at", models.DateTimeField(verbose_name="attribué le")),
                ("by", models.CharField(max_length=150, verbose_name="par")),
                (
                    "commune",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="claims",
                        to="console.commune",
                        verbose_name="commune",
                    ),
                ),
            ],
            options={
                "verbose_name": "attribution en attente",
                "verbose_name_plural": "attributions en attente",
            },
        ),
        migrations.AddField(
            model_name="box",
            name="commune",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="boxes",
                to="console.commune",
                verbose_name="commune",
            ),
        ),
        migrations.CreateModel(
            name="EssentialService",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("created", models.DateTimeField(verbose_name="créée le")),
                ("created_by", models.CharField(max_length=150, verbose_name="par")),
                ("name", models.CharField(max_length=253, verbose_name="nom ou adresse")),
                (
                    "rank",
                    models.PositiveSmallIntegerField(
                        default=5, validators=[django.core.validators.MaxValueValidator(9)], verbose_name="rang"
                    ),
                ),
                ("note", models.CharField(blank=True, max_length=200, verbose_name="pourquoi")),
                (
                    "box",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="console.box",
                        verbose_name="boîtier",
                    ),
                ),
                (
                    "commune",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="console.commune",
                        verbose_name="commune",
                    ),
                ),
            ],
            options={
                "verbose_name": "service essentiel",
                "verbose_name_plural": "services essentiels",
                "ordering": ["rank", "name"],
            },
        ),
        migrations.CreateModel(
            name="Isolation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("until", models.DateTimeField(verbose_name="jusqu'au")),
                ("reason", models.CharField(max_length=200, verbose_name="pourquoi")),
                ("mass", models.CharField(blank=True, max_length=32, verbose_name="ordre groupé")),
                ("created", models.DateTimeField(verbose_name="ordonné le")),
                ("created_by", models.CharField(max_length=150, verbose_name="par")),
                ("lifted", models.DateTimeField(null=True, verbose_name="levé le")),
                ("lifted_by", models.CharField(blank=True, max_length=150, verbose_name="levé par")),
                (
                    "level",
                    models.PositiveSmallIntegerField(
                        choices=[(1, "1 : vigilance"), (2, "2 : services essentiels"), (3, "3 : coupé")],
                        verbose_name="niveau",
                    ),
                ),
                (
                    "box",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, to="console.box", verbose_name="boîtier"
                    ),
                ),
            ],
            options={
                "verbose_name": "isolement",
                "verbose_name_plural": "isolements",
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="NeverBlock",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("created", models.DateTimeField(verbose_name="créée le")),
                ("created_by", models.CharField(max_length=150, verbose_name="par")),
                ("target", models.CharField(max_length=260, verbose_name="nom ou adresse")),
                ("note", models.CharField(max_length=200, verbose_name="pourquoi")),
                (
                    "box",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="console.box",
                        verbose_name="boîtier",
                    ),
                ),
                (
                    "commune",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="console.commune",
                        verbose_name="commune",
                    ),
                ),
            ],
            options={
                "verbose_name": "jamais bloqué",
                "verbose_name_plural": "jamais bloqués",
                "ordering": ["target"],
            },
        ),
        migrations.CreateModel(
            name="Outgoing",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("topic", models.CharField(max_length=120)),
                ("payload", models.BinaryField()),
                ("retain", models.BooleanField(default=False)),
                ("response_topic", models.CharField(blank=True, max_length=120)),
                ("correlation", models.CharField(blank=True, max_length=64)),
                ("expiry_s", models.PositiveIntegerField(null=True)),
                ("created", models.DateTimeField()),
                ("sent", models.DateTimeField(null=True)),
            ],
            options={
                "verbose_name": "message sortant",
                "verbose_name_plural": "messages sortants",
                "ordering": ["id"],
                "indexes": [
                    models.Index(condition=models.Q(("sent", None)), fields=["id"], name="outgoing_waiting"),
                    models.Index(fields=["sent"], name="outgoing_sent"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Quarantine",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("until", models.DateTimeField(verbose_name="jusqu'au")),
                ("reason", models.CharField(max_length=200, verbose_name="pourquoi")),
                ("mass", models.CharField(blank=True, max_length=32, verbose_name="ordre groupé")),
                ("created", models.DateTimeField(verbose_name="ordonné le")),
                ("created_by", models.CharField(max_length=150, verbose_name="par")),
                ("lifted", models.DateTimeField(null=True, verbose_name="levé le")),
                ("lifted_by", models.CharField(blank=True, max_length=150, verbose_name="levé par")),
                ("device", models.CharField(max_length=18, verbose_name="appareil")),
                (
                    "box",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, to="console.box", verbose_name="boîtier"
                    ),
                ),
            ],
            options={
                "verbose_name": "quarantaine",
                "verbose_name_plural": "quarantaines",
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="Receipt",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("box", models.CharField(max_length=19)),
                ("boot", models.CharField(max_length=32)),
                ("upto", models.BigIntegerField(default=0)),
                ("beyond", models.JSONField(default=list)),
                ("updated", models.DateTimeField()),
            ],
            options={
                "verbose_name": "accusé de réception",
                "verbose_name_plural": "accusés de réception",
                "constraints": [models.UniqueConstraint(fields=("box", "boot"), name="receipt_once")],
            },
        ),
        migrations.CreateModel(
            name="BoxStatus",
            fields=[
                (
                    "box",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="status",
                        serialize=False,
                        to="console.box",
                    ),
                ),
                ("online", models.BooleanField(default=False, verbose_name="en ligne")),
                ("session", models.BigIntegerField(default=0)),
                ("state_seq", models.BigIntegerField(default=0)),
                ("seen", models.DateTimeField(null=True, verbose_name="vu le")),
                ("base_version", models.BigIntegerField(null=True, verbose_name="base")),
                ("base_entries", models.BigIntegerField(null=True, verbose_name="indicateurs")),
                ("candidate", models.BigIntegerField(null=True, verbose_name="base à l'essai")),
                ("desired_version", models.BigIntegerField(null=True, verbose_name="ordres reçus")),
                ("desired_status", models.CharField(blank=True, max_length=12, verbose_name="état des ordres")),
                ("desired_refused", models.CharField(blank=True, max_length=40, verbose_name="ordres refusés")),
                ("isolation", models.SmallIntegerField(default=0, verbose_name="isolement")),
                ("quarantined", models.IntegerField(default=0, verbose_name="appareils en quarantaine")),
                ("exceptions", models.IntegerField(default=0, verbose_name="exceptions en vigueur")),
                ("inbound", models.CharField(blank=True, max_length=8, verbose_name="connexions entrantes")),
                ("filter", models.CharField(blank=True, max_length=10, verbose_name="filtrage")),
                ("version", models.CharField(blank=True, max_length=64, verbose_name="version du logiciel")),
                ("uptime_s", models.BigIntegerField(null=True, verbose_name="en marche depuis (s)")),
                ("disk_free_mb", models.BigIntegerField(null=True, verbose_name="disque libre (Mo)")),
                ("mem_free_mb", models.BigIntegerField(null=True, verbose_name="mémoire libre (Mo)")),
                ("load", models.FloatField(null=True, verbose_name="charge")),
                ("roles_known", models.BooleanField(null=True, verbose_name="sens des câbles connu")),
                ("losses", models.BigIntegerField(default=0, verbose_name="lignes perdues")),
            ],
            options={
                "verbose_name": "état",
                "verbose_name_plural": "états",
                "indexes": [models.Index(fields=["base_version"], name="status_base")],
            },
        ),
        migrations.CreateModel(
            name="Alert",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("boot", models.CharField(max_length=32)),
                ("seq", models.BigIntegerField()),
                ("received", models.DateTimeField(db_index=True, verbose_name="reçu le")),
                ("alert_id", models.BigIntegerField(verbose_name="numéro sur le boîtier")),
                ("sent", models.DateTimeField(verbose_name="envoyé le")),
                ("clock", models.CharField(max_length=8, verbose_name="horloge")),
                ("rule", models.CharField(max_length=40, verbose_name="règle")),
                ("reason", models.IntegerField(verbose_name="motif")),
                (
                    "severity",
                    models.SmallIntegerField(
                        choices=[(0, "information"), (1, "faible"), (2, "moyenne"), (3, "critique")],
                        verbose_name="gravité",
                    ),
                ),
                ("category", models.IntegerField(verbose_name="catégorie")),
                ("direction", models.SmallIntegerField(verbose_name="sens")),
                ("indicator", models.CharField(max_length=260, null=True, verbose_name="indicateur")),
                ("device", models.CharField(max_length=18, null=True, verbose_name="appareil")),
                ("device_class", models.IntegerField(verbose_name="type d'appareil")),
                ("count", models.BigIntegerField(verbose_name="nombre")),
                ("first", models.DateTimeField(verbose_name="première fois")),
                ("last", models.DateTimeField(verbose_name="dernière fois")),
                ("incident", models.BooleanField(default=False, verbose_name="incident")),
                ("handled", models.DateTimeField(null=True, verbose_name="traitée le")),
                ("handled_by", models.CharField(blank=True, max_length=150, verbose_name="par")),
                (
                    "box",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, to="console.box", verbose_name="boîtier"
                    ),
                ),
            ],
            options={
                "verbose_name": "alerte",
                "verbose_name_plural": "alertes",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(fields=["box", "-received"], name="alert_box"),
                    models.Index(fields=["indicator"], name="alert_indicator"),
                ],
                "constraints": [models.UniqueConstraint(fields=("box", "boot", "alert_id"), name="alert_once")],
            },
        ),
        migrations.CreateModel(
            name="Counter",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("hour", models.DateTimeField(db_index=True, verbose_name="heure")),
                ("name", models.CharField(max_length=40, verbose_name="compteur")),
                ("value", models.BigIntegerField(verbose_name="valeur")),
                (
                    "box",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, to="console.box", verbose_name="boîtier"
                    ),
                ),
            ],
            options={
                "verbose_name": "compteur",
                "verbose_name_plural": "compteurs",
                "ordering": ["-hour", "name"],
                "constraints": [models.UniqueConstraint(fields=("box", "hour", "name"), name="counter_once")],
            },
        ),
        migrations.CreateModel(
            name="DesiredState",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("version", models.BigIntegerField(verbose_name="version")),
                ("issued", models.DateTimeField(verbose_name="émis le")),
                ("expires", models.DateTimeField(verbose_name="expire le")),
                ("payload", models.JSONField(verbose_name="contenu")),
                ("envelope", models.BinaryField()),
                ("digest", models.CharField(max_length=64)),
                ("operator", models.CharField(max_length=150, verbose_name="par")),
                ("reason", models.CharField(blank=True, max_length=200, verbose_name="pourquoi")),
                ("answered", models.DateTimeField(null=True, verbose_name="réponse le")),
                ("result", models.CharField(blank=True, max_length=12, verbose_name="résultat")),
                ("code", models.CharField(blank=True, max_length=40, verbose_name="code")),
                ("detail", models.JSONField(default=list, verbose_name="détail")),
                (
                    "box",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="documents",
                        to="console.box",
                        verbose_name="boîtier",
                    ),
                ),
            ],
            options={
                "verbose_name": "document d'ordres",
                "verbose_name_plural": "documents d'ordres",
                "ordering": ["-issued", "-version"],
                "indexes": [models.Index(fields=["expires"], name="desired_expires")],
                "constraints": [models.UniqueConstraint(fields=("box", "version"), name="desired_once")],
            },
        ),
        migrations.CreateModel(
            name="Diagnostic",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("boot", models.CharField(max_length=32)),
                ("seq", models.BigIntegerField()),
                ("received", models.DateTimeField(db_index=True, verbose_name="reçu le")),
                ("command", models.CharField(max_length=32, verbose_name="commande")),
                ("consent", models.DateTimeField(verbose_name="accord donné le")),
                ("items", models.JSONField(verbose_name="contenu")),
                (
                    "box",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, to="console.box", verbose_name="boîtier"
                    ),
                ),
            ],
            options={
                "verbose_name": "diagnostic",
                "verbose_name_plural": "diagnostics",
                "ordering": ["-id"],
                "constraints": [models.UniqueConstraint(fields=("box", "boot", "seq"), name="diagnostic_once")],
            },
        ),
        migrations.CreateModel(
            name="ExceptionRequest",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("boot", models.CharField(max_length=32)),
                ("seq", models.BigIntegerField()),
                ("received", models.DateTimeField(db_index=True, verbose_name="reçu le")),
                ("indicator", models.CharField(max_length=260, verbose_name="indicateur")),
                ("device", models.CharField(max_length=18, null=True, verbose_name="appareil")),
                ("days", models.IntegerField(verbose_name="jours")),
                ("words", models.TextField(blank=True, verbose_name="message")),
                ("consent", models.DateTimeField(verbose_name="accord donné le")),
                ("consent_by", models.CharField(max_length=40, verbose_name="par")),
                (
                    "state",
                    models.CharField(
                        choices=[("open", "à traiter"), ("granted", "accordée"), ("refused", "refusée")],
                        default="open",
                        max_length=8,
                        verbose_name="état",
                    ),
                ),
                ("answered", models.DateTimeField(null=True, verbose_name="répondu le")),
                ("answered_by", models.CharField(blank=True, max_length=150, verbose_name="par")),
                (
                    "box",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, to="console.box", verbose_name="boîtier"
                    ),
                ),
            ],
            options={
                "verbose_name": "demande d'exception",
                "verbose_name_plural": "demandes d'exception",
                "ordering": ["-id"],
                "constraints": [models.UniqueConstraint(fields=("box", "boot", "seq"), name="request_once")],
            },
        ),
        migrations.CreateModel(
            name="Observation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("candidate", models.BigIntegerField(verbose_name="base à l'essai")),
                ("indicator", models.CharField(max_length=260, verbose_name="indicateur")),
                ("count", models.BigIntegerField(verbose_name="nombre")),
                ("last", models.DateTimeField(db_index=True, verbose_name="dernière fois")),
                (
                    "box",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, to="console.box", verbose_name="boîtier"
                    ),
                ),
            ],
            options={
                "verbose_name": "observation",
                "verbose_name_plural": "observations",
                "indexes": [models.Index(fields=["candidate", "indicator"], name="observation_candidate")],
                "constraints": [
                    models.UniqueConstraint(fields=("box", "candidate", "indicator"), name="observation_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="PolicyException",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("created", models.DateTimeField(verbose_name="créée le")),
                ("created_by", models.CharField(max_length=150, verbose_name="par")),
                (
                    "action",
                    models.CharField(
                        choices=[("allow", "laisser passer"), ("observe", "observer"), ("block", "bloquer")],
                        max_length=8,
                        verbose_name="action",
                    ),
                ),
                (
                    "target",
                    models.CharField(
                        help_text="Nom de domaine, adresse ou préfixe", max_length=260, verbose_name="cible"
                    ),
                ),
                (
                    "device",
                    models.CharField(
                        blank=True,
                        help_text="Pseudonyme « d-… » d'une alerte ; vide : tous",
                        max_length=18,
                        verbose_name="appareil",
                    ),
                ),
                (
                    "proto",
                    models.CharField(
                        blank=True,
                        choices=[("", "tous"), ("tcp", "TCP"), ("udp", "UDP")],
                        max_length=4,
                        verbose_name="protocole",
                    ),
                ),
                ("port", models.PositiveIntegerField(blank=True, null=True, verbose_name="port")),
                ("until", models.DateTimeField(verbose_name="jusqu'au")),
                ("note", models.CharField(max_length=100, verbose_name="pourquoi")),
                ("removed", models.DateTimeField(blank=True, null=True, verbose_name="retirée le")),
                ("removed_by", models.CharField(blank=True, max_length=150, verbose_name="retirée par")),
                (
                    "box",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="console.box",
                        verbose_name="boîtier",
                    ),
                ),
                (
                    "commune",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="console.commune",
                        verbose_name="commune",
                    ),
                ),
            ],
            options={
                "verbose_name": "exception",
                "verbose_name_plural": "exceptions",
                "ordering": ["-id"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("box", None), ("commune", None), _connector="OR"),
                        name="exception_one_scope",
                    )
                ],
            },
        ),
    ]
