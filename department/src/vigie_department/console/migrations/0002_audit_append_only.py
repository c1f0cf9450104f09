"""The database itself keeps the audit: no change ever, no deletion before 180 days (what `retain` deletes is older)."""

from typing import Any, ClassVar

from django.db import migrations

SQLITE = (
    """
    CREATE TRIGGER audit_no_update BEFORE UPDATE ON console_auditentry
    BEGIN SELECT RAISE(ABORT, 'the audit is append only'); END
    """,
    """
    CREATE TRIGGER audit_no_delete BEFORE DELETE ON console_auditentry
    WHEN julianday(OLD.at) > julianday('now') - 180
    BEGIN SELECT RAISE(ABORT, 'the audit is kept for 180 days'); END
    """,
)
POSTGRESQL = (
    """
    CREATE FUNCTION console_audit_guard() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' AND OLD.at <= now() - interval '180 days' THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'the audit is append only, and kept for 180 days';
    END $$
    """,
    """
    CREATE TRIGGER audit_guard BEFORE UPDATE OR DELETE ON console_auditentry
    FOR EACH ROW EXECUTE FUNCTION console_audit_guard()
    """,
    """
    CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON console_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION console_audit_guard()
    """,
)
UNDO = {
    "sqlite": ("DROP TRIGGER audit_no_update", "DROP TRIGGER audit_no_delete"),
    "postgresql": (
        "DROP TRIGGER audit_no_truncate ON console_auditentry",
        "DROP TRIGGER audit_guard ON console_auditentry",
        "DROP FUNCTION console_audit_guard()",
    ),
}


def guard(_apps: Any, editor: Any) -> None:
    """Make the triggers."""
    for statement in SQLITE if editor.connection.vendor == "sqlite" else POSTGRESQL:
        editor.execute(statement)


def unguard(_apps: Any, editor: Any) -> None:
    """Drop them."""
    for statement in UNDO[editor.connection.vendor]:
        editor.execute(statement)


class Migration(migrations.Migration):
    """Triggers only."""

    dependencies: ClassVar = [("console", "0001_initial")]
    operations: ClassVar = [migrations.RunPython(guard, unguard)]
