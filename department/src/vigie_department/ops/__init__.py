"""Running the department: setting it up, its processes, its health, its backups."""
