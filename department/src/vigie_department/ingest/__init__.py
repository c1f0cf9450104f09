"""Between the broker and the database: what boxes report is committed, then confirmed; what they are told is sent."""
