"""Tables of stored bytes and of the commits that name them."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from portal.core.change import facts
from portal.core.db import Base, append_only, enum_type
from portal.files.rules import RefKind

# Pages of a listing go on after a path, so both databases must order paths alike: byte by byte.
PATH = String().with_variant(String(collation="C"), "postgresql")


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
    """A file or folder in a commit: its path, the folder it lies in, and its git object id.

    A folder has no bytes, and the id of a git tree; `lfs` marks large files, which are listed by SHA-256.
    """

    __tablename__ = "tree_entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    commit_id: Mapped[int] = mapped_column(ForeignKey("commit_.id", ondelete="RESTRICT"))
    folder: Mapped[str] = mapped_column(PATH)
    path: Mapped[str] = mapped_column(PATH)
    blob_sha256: Mapped[str | None] = mapped_column(ForeignKey("blob.sha256", ondelete="RESTRICT"), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    git_oid: Mapped[str]
    lfs: Mapped[bool]

    __table_args__ = (
        UniqueConstraint("commit_id", "path"),
        Index("ix_tree_entry_folder", "commit_id", "folder", "path"),
    )


class Ref(Base):
    """A branch or tag: a name that points to a commit."""

    __tablename__ = "ref"

    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("gated_model.id", ondelete="RESTRICT"))
    kind: Mapped[RefKind] = mapped_column(enum_type(RefKind, "kind"))
    name: Mapped[str]
    commit_id: Mapped[int] = mapped_column(ForeignKey("commit_.id", ondelete="RESTRICT"))

    __table_args__ = (UniqueConstraint("model_id", "name"),)


class Upload(Base):
    """Bytes that somebody of the staff is about to send, or has sent and is about to name in a commit.

    While it is live, whatever has its digest is kept; afterwards it is swept, with what came of it.
    """

    __tablename__ = "upload"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("gated_model.id", ondelete="RESTRICT"))
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="RESTRICT"))
    access_token_id: Mapped[int] = mapped_column(ForeignKey("access_token.id", ondelete="RESTRICT"))
    sha256: Mapped[str] = mapped_column(index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    part_size: Mapped[int] = mapped_column(BigInteger, default=0)
    opened_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    stored_at: Mapped[datetime | None]


facts("ref")  # where the data plane finds a file under a name
