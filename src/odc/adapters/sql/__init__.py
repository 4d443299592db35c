"""Records in SQL: SQLite for one machine, PostgreSQL for a cluster."""
