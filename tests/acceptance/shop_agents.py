"""A task of the shop's Celery app as an agent of Runyard."""

from __future__ import annotations

from runyard import agent
from runyard.adapters import celery_task
from tests.fakes.authors.shop_tasks import app

deliver = agent("@shop/deliver")(celery_task("shop.deliver", app, poll=0.2))
