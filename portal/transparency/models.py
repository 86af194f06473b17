"""The table of monthly reports."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from portal.core.db import Base, append_only


@append_only()
class MonthlyReport(Base):
    """The report of a month as it was published, in the exact bytes that its digest names."""

    __tablename__ = "monthly_report"

    month: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[bytes]
    sha256: Mapped[str]
    published_at: Mapped[datetime]
