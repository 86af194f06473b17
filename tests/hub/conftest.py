"""People in every state, and a model with a large file, in a portal that runs for Hub clients."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import pytest

from portal.core.db import make_engine, transaction
from tests import member
from tests.hub.serving import running
from tests.running import RunningPortal

LARGE = "bigscience/bloom-1b1"
LARGE_BYTES = 34 << 20


@dataclass
class Hub:
    """The portal with people in every state, and a model with a large file."""

    portal: RunningPortal
    tokens: dict[str, str]

    @property
    def url(self) -> str:
        return self.portal.base_url


def token_without_signature(portal: RunningPortal, email: str) -> str:
    """An access token of somebody who signed nothing; the portal gives them none, so it comes from below."""
    from portal.accounts import service as accounts
    from portal.core.actor import Actor
    from portal.core.clock import utcnow
    from portal.core.config import Settings
    from portal.tokens import service

    settings = Settings.from_env({k: v for k, v in portal.environ.items() if k.startswith("PORTAL_")})
    engine = make_engine(settings.database_url)
    with transaction(engine) as session:
        user = accounts.find_by_email(session, email=email)
        assert user is not None
        _, secret = service.issue(
            session, by=Actor(user_id=user.id, public_id=user.public_id), owner_id=user.id, name="t",
            scopes=["weights:read"], model_ids=[], days=1, pepper=settings.pepper, now=utcnow(),
        )  # fmt: skip
    engine.dispose()
    return secret


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The running portal, its people's access tokens by name."""
    home = tmp_path_factory.mktemp("hub portal")
    with running(home) as portal:
        folder = home / "large"
        folder.mkdir()
        (folder / "weights.safetensors").write_bytes(Random(1).randbytes(LARGE_BYTES))
        (folder / "config.json").write_text("{}")
        portal.cli("models", "publish", str(folder), LARGE, "--license", "bloom-rail", "--message", "Large")
        tokens = {"signed": member.signed_member(portal, "signed@example.org")}
        tokens["inference"] = member.issue_token(portal, "signed@example.org", "inference")
        member.add_member(portal, "unsigned@example.org")
        tokens["unsigned"] = token_without_signature(portal, "unsigned@example.org")
        yield Hub(portal, tokens)
