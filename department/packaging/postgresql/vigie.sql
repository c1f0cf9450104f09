-- PostgreSQL instead of SQLite: run once by the administrator of the server, `sudo -u postgres psql -f vigie.sql`.
-- Both processes come by the local socket under their own system user, so there is no password to keep.
CREATE ROLE "vigie-console" LOGIN;
CREATE ROLE "vigie-ingest" LOGIN;
CREATE DATABASE vigie OWNER "vigie-console" ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE vigie FROM PUBLIC;
GRANT CONNECT ON DATABASE vigie TO "vigie-ingest";
\connect vigie
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO "vigie-ingest";
-- Tables that the console makes later (`vigie-department init`, upgrades) are open to the ingest, without DDL.
ALTER DEFAULT PRIVILEGES FOR ROLE "vigie-console" IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO "vigie-ingest";
ALTER DEFAULT PRIVILEGES FOR ROLE "vigie-console" IN SCHEMA public
    GRANT USAGE, SELECT ON SEQUENCES TO "vigie-ingest";
