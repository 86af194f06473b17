"""Table of programs of others."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from portal.core.db import JSON_VALUE, Base, enum_type
from portal.programs.rules import ProgramState


class Program(Base):
    """A program that may ask people to let it act for them (RFC 6749, section 2).

    Args:
        public_id: its `client_id`.
        secret_hmac: what is kept of its secret; none where it runs on machines of others and could keep none.
    """

    __tablename__ = "program"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    homepage: Mapped[str]
    redirect_uris: Mapped[list[str]] = mapped_column(JSON_VALUE)
    scopes: Mapped[str]
    secret_hmac: Mapped[str | None]
    secret_last4: Mapped[str | None]
    state: Mapped[ProgramState] = mapped_column(enum_type(ProgramState, "state"), default=ProgramState.LIVE)
    registered_by: Mapped[str]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    @property
    def is_public(self) -> bool:
        """Say whether it runs where it could keep no secret."""
        return self.secret_hmac is None
