#!/bin/sh
# Run by PostgreSQL's container when its volume is made: the role and the database of Runyard's processes. The role is
# no superuser; it owns its database and nothing else.
set -eu
psql --no-psqlrc --quiet -v ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\getenv password DATABASE_PASSWORD
CREATE ROLE runyard LOGIN PASSWORD :'password';
CREATE DATABASE runyard OWNER runyard;
REVOKE CONNECT ON DATABASE runyard FROM PUBLIC;
SQL
