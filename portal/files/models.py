"""Tables of stored bytes and of the commits that name them."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from portal.core.change import facts
from portal.core.db import Base, append_only, enum_type
from portal.files.rules import RefKind


@append_only()
class Blob(Base):
    """Bytes in the content-addressed store."""

    __tablename__ = "blob"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    stored_at: Mapped[datetime]


@append_only()
class Commit(Base):
    """One published state of a model's files; `revision` is 40 hex digits."""

    __tablename__ = "commit_"

    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("gated_model.id", ondelete="RESTRICT"), index=True)
    revision: Mapped[str] = mapped_column(index=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("commit_.id", ondelete="RESTRICT"))
    title: Mapped[str]
    message: Mapped[str] = mapped_column(default="")
    author: Mapped[str]
    created_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("model_id", "revision"),)


@append_only()
class TreeEntry(Base):
    """A file in a commit: its path, bytes and git object id; `lfs` marks large files listed by SHA-256."""

    __tablename__ = "tree_entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    commit_id: Mapped[int] = mapped_column(ForeignKey("commit_.id", ondelete="RESTRICT"), index=True)
    path: Mapped[str]
    blob_sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256", ondelete="RESTRICT"), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    git_oid: Mapped[str]
    lfs: Mapped[bool]

    __table_args__ = (UniqueConstraint("commit_id", "path"),)


class Ref(Base):
    """A branch or tag: a name that points to a commit."""

    __tablename__ = "ref"

    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("gated_model.id", ondelete="RESTRICT"))
    kind: Mapped[RefKind] = mapped_column(enum_type(RefKind, "kind"))
    name: Mapped[str]
    commit_id: Mapped[int] = mapped_column(ForeignKey("commit_.id", ondelete="RESTRICT"))

    __table_args__ = (UniqueConstraint("model_id", "name"),)


facts("ref")  # where the data plane finds a file under a name
