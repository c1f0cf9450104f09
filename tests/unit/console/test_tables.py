"""Tables: migrations are complete, the audit cannot be changed, roles have what they need and no more."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import DatabaseError, transaction
from django.utils import timezone

from vigie_department.config import Config
from vigie_department.console import roles
from vigie_department.console.models import AuditEntry


def test_no_migration_is_missing(config: Config) -> None:
    call_command("makemigrations", "console", check=True, dry_run=True, verbosity=0)


@pytest.mark.usefixtures("db")
class TestAudit:
    def entry(self, days: int) -> int:
        at = timezone.now() - timedelta(days=days)
        return AuditEntry.objects.create(at=at, actor="a", action="box.show", detail={"x": 1}).pk

    def test_an_entry_cannot_be_changed(self) -> None:
        self.entry(0)
        with pytest.raises(DatabaseError, match="append only"), transaction.atomic():
            AuditEntry.objects.update(actor="b")

    @pytest.mark.parametrize(("days", "goes"), [(0, False), (179, False), (181, True)])
    def test_an_entry_is_kept_for_180_days(self, days: int, goes: bool) -> None:
        key = self.entry(days)
        if goes:
            AuditEntry.objects.filter(pk=key).delete()
        else:
            with pytest.raises(DatabaseError, match="180 days"), transaction.atomic():
                AuditEntry.objects.filter(pk=key).delete()
        assert AuditEntry.objects.filter(pk=key).exists() is not goes


@pytest.mark.usefixtures("db")
def test_roles() -> None:
    found = {
        name: set(Group.objects.get(name=name).permissions.values_list("codename", flat=True)) for name in roles.ROLES
    }
    assert found == {name: set(wanted) for name, wanted in roles.PERMISSIONS.items()}
    assert all(name.startswith("view_") for name in found[roles.READER]), found[roles.READER]
    assert found[roles.READER] < found[roles.OPERATOR] < found[roles.ADMINISTRATOR]
    assert "revoke_box" not in found[roles.OPERATOR]
