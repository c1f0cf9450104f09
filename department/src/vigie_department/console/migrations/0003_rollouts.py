"""Firmware rollouts, and what boxes tell of their update (made by `makemigrations`)."""
# ruff: noqa: RUF012 - as Django writes it

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("console", "0002_audit_append_only"),
    ]

    operations = [
        migrations.CreateModel(
            name="FirmwareOrder",
            fields=[
                (
                    "box",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="firmware",
                        serialize=False,
                        to="console.box",
                    ),
                ),
                ("version", models.CharField(blank=True, max_length=12, verbose_name="version")),
                ("order", models.BigIntegerField(verbose_name="numéro d'ordre")),
                ("changed", models.DateTimeField(verbose_name="depuis le")),
            ],
        ),
        migrations.CreateModel(
            name="Freeze",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("first", models.DateField(verbose_name="du")),
                ("last", models.DateField(verbose_name="au")),
                ("reason", models.CharField(max_length=200, verbose_name="pourquoi")),
                ("created", models.DateTimeField(verbose_name="décidé le")),
                ("created_by", models.CharField(max_length=150, verbose_name="par")),
                ("removed", models.DateTimeField(null=True, verbose_name="annulé le")),
                ("removed_by", models.CharField(blank=True, max_length=150, verbose_name="annulé par")),
            ],
            options={
                "verbose_name": "gel des mises à jour",
                "verbose_name_plural": "gels des mises à jour",
                "ordering": ["-first"],
            },
        ),
        migrations.AddField(
            model_name="boxstatus",
            name="firmware_check",
            field=models.CharField(blank=True, default="", max_length=12, verbose_name="contrôle échoué"),
        ),
        migrations.AddField(
            model_name="boxstatus",
            name="firmware_code",
            field=models.CharField(blank=True, default="", max_length=24, verbose_name="code de mise à jour"),
        ),
        migrations.AddField(
            model_name="boxstatus",
            name="firmware_floor",
            field=models.CharField(blank=True, default="", max_length=12, verbose_name="version minimale"),
        ),
        migrations.AddField(
            model_name="boxstatus",
            name="firmware_order",
            field=models.BigIntegerField(default=0, verbose_name="numéro de son ordre"),
        ),
        migrations.AddField(
            model_name="boxstatus",
            name="firmware_phase",
            field=models.CharField(blank=True, default="", max_length=12, verbose_name="mise à jour"),
        ),
        migrations.AddField(
            model_name="boxstatus",
            name="firmware_tries",
            field=models.IntegerField(default=0, verbose_name="essais échoués"),
        ),
        migrations.AddField(
            model_name="boxstatus",
            name="firmware_version",
            field=models.CharField(blank=True, default="", max_length=12, verbose_name="mise à jour ordonnée"),
        ),
        migrations.CreateModel(
            name="Rollout",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("version", models.CharField(max_length=12, verbose_name="version")),
                (
                    "stage",
                    models.CharField(
                        choices=[
                            ("planned", "prévu"),
                            ("running", "en cours"),
                            ("paused", "suspendu"),
                            ("stopped", "arrêté, trop d'échecs"),
                            ("done", "terminé"),
                            ("aborted", "abandonné"),
                            ("superseded", "remplacé"),
                        ],
                        default="planned",
                        max_length=12,
                        verbose_name="étape",
                    ),
                ),
                ("plan", models.JSONField(default=dict, verbose_name="plan")),
                ("wave", models.PositiveSmallIntegerField(default=0, verbose_name="vague")),
                ("wave_since", models.DateTimeField(null=True, verbose_name="vague commencée le")),
                ("created", models.DateTimeField(verbose_name="prévu le")),
                ("created_by", models.CharField(max_length=150, verbose_name="par")),
                ("started", models.DateTimeField(null=True, verbose_name="commencé le")),
                ("changed", models.DateTimeField(verbose_name="étape depuis le")),
                ("reason", models.CharField(blank=True, max_length=200, verbose_name="pourquoi")),
            ],
            options={
                "verbose_name": "déploiement",
                "verbose_name_plural": "déploiements",
                "ordering": ["-id"],
                "constraints": [
                    models.UniqueConstraint(
                        models.Value(1),
                        condition=models.Q(("stage__in", ("running", "paused", "stopped", "done", "aborted"))),
                        name="rollout_one_current",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="RolloutBox",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("wave", models.PositiveSmallIntegerField(verbose_name="vague")),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("waiting", "attend"),
                            ("ordered", "en cours"),
                            ("good", "installée"),
                            ("failed", "échec"),
                            ("silent", "muet"),
                            ("late", "trop long"),
                            ("absent", "absent, viendra plus tard"),
                            ("left", "n'est plus en service"),
                        ],
                        default="waiting",
                        max_length=8,
                        verbose_name="résultat",
                    ),
                ),
                ("step", models.CharField(blank=True, max_length=12, verbose_name="version ordonnée")),
                ("order", models.BigIntegerField(default=0, verbose_name="numéro d'ordre")),
                ("ordered", models.DateTimeField(null=True, verbose_name="ordonné le")),
                ("stands", models.BooleanField(default=False, verbose_name="ordre en vigueur")),
                ("forgiven", models.BooleanField(default=False, verbose_name="échec admis")),
                ("code", models.CharField(blank=True, max_length=24, verbose_name="code")),
                ("health", models.CharField(blank=True, max_length=12, verbose_name="contrôle échoué")),
                ("changed", models.DateTimeField(verbose_name="depuis le")),
                (
                    "box",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="rollouts",
                        to="console.box",
                        verbose_name="boîtier",
                    ),
                ),
                (
                    "rollout",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="members",
                        to="console.rollout",
                        verbose_name="déploiement",
                    ),
                ),
            ],
            options={
                "verbose_name": "boîtier d'un déploiement",
                "verbose_name_plural": "boîtiers des déploiements",
                "ordering": ["-rollout", "wave", "box"],
                "constraints": [models.UniqueConstraint(fields=("rollout", "box"), name="rollout_box_once")],
            },
        ),
    ]
