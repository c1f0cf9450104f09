"""The mairie's page: what the box is, how it stands with the department, its address. No outside resource."""
