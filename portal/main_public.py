"""Background work on what the public says and is told, composed: leaks, reports from outside, monthly figures."""

import sqlalchemy as sa

from portal.adapters.month_keys import MonthKeys
from portal.contents import service as contents
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.config import Settings
from portal.core.db import transaction
from portal.reports import service as reports
from portal.reveals import service as reveals
from portal.tokens import service as tokens
from portal.transparency import service as transparency


class Public:
    """What is done about what people outside say, each step in a transaction of its own.

    Args:
        settings: the address that mails name.
        engine: the database.
    """

    def __init__(self, settings: Settings, engine: sa.Engine) -> None:
        self.base_url = settings.base_url
        self.engine = engine
        self.keys = MonthKeys(settings.home / "keys" / "months", settings.pepper)

    def leaks(self) -> bool:
        """End access tokens whose secrets somebody found in public."""
        with transaction(self.engine) as session:
            return tokens.settle_leaks(session, by=SYSTEM, base_url=self.base_url, now=utcnow())

    def reports(self) -> bool:
        """Tell whoever reported something what came of it."""
        with transaction(self.engine) as session:
            return reports.tell(session, base_url=self.base_url, now=utcnow())

    def retention(self) -> bool:
        """Delete kept texts whose time is over and on which no case rests, then the keys of months without any."""
        with transaction(self.engine) as session:
            reveals.hold_evidence(session, now=utcnow())
            deleted = contents.forget(session, by=SYSTEM, now=utcnow())
        if not deleted:
            with transaction(self.engine) as session:
                contents.forget_keys(session, keys=self.keys, by=SYSTEM, now=utcnow())
        return deleted > 0

    def month(self) -> bool:
        """Publish the figures of a month that is over."""
        with transaction(self.engine) as session:
            return transparency.publish(session, by=SYSTEM, now=utcnow()) is not None
