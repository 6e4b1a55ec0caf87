"""A small order and notification service, the kind that grows in every company."""
