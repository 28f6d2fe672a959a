"""Celery's side of the house: tasks are a parse, one call, a report. The work is done by `app.services`."""
