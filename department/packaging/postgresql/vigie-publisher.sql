-- After `vigie-department init`: what the publisher's timers need of the console's tables, and nothing else of it.
-- `sudo -u postgres psql -d vigie -f vigie-publisher.sql`; once more after an upgrade does no harm.
DO $$ BEGIN
    CREATE ROLE "vigie-publisher" LOGIN;
EXCEPTION WHEN duplicate_object THEN NULL;
END $$;
GRANT CONNECT ON DATABASE vigie TO "vigie-publisher";
GRANT USAGE ON SCHEMA public TO "vigie-publisher";
-- The figures of a wave.
GRANT SELECT ON console_box, console_boxstatus, console_commune, console_counter, console_observation
    TO "vigie-publisher";
-- Releases, and the announcement that goes out by the ingest (unsigned; orders are signed, so it cannot make any).
GRANT SELECT, INSERT, UPDATE ON console_baserelease TO "vigie-publisher";
GRANT SELECT, INSERT ON console_outgoing TO "vigie-publisher";
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO "vigie-publisher";
