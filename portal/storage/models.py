"""Table of the bytes that commits name."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from portal.core.db import Base, append_only


@append_only()
class Blob(Base):
    """Bytes in the content-addressed store; of safetensors, with the number of parameters by type."""

    __tablename__ = "blob"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    stored_at: Mapped[datetime]
    parameters: Mapped[dict[str, Any]] = mapped_column(default=dict)
