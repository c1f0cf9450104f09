"""Pages of the tables. Importing this registers them."""

from vigie_department.console.web.admin import communes, fleet, orders, people, records, reports, rollouts

__all__ = ["communes", "fleet", "orders", "people", "records", "reports", "rollouts"]
