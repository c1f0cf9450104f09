"""What makes and publishes an update. Imports `vigie.contract` of the box and public functions of the department."""
