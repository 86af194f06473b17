"""What happened, in a fixed vocabulary: every event has a name and typed fields that hold ids, never words."""

from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar

from portal.proofs.rules import canonical


class Power(StrEnum):
    """The staff permission to read events, by the name that `accounts` gives it; `audit` lies below `accounts`."""

    READ = "audit:event:read"


EVENTS: dict[str, type["Event"]] = {}


@dataclass(frozen=True)
class Event:
    """One thing that happened. `subject` is the public id of what it happened to."""

    name: ClassVar[str]
    subject: str

    def __init_subclass__(cls, name: str) -> None:
        cls.name = name
        EVENTS[name] = cls

    @property
    def data(self) -> dict[str, Any]:
        """The fields beyond the subject."""
        return {name: value for name, value in asdict(self).items() if name != "subject"}

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """Names of all fields, for the documentation page."""
        return tuple(f.name for f in fields(cls))


@dataclass(frozen=True)
class SignedUp(Event, name="account:user:created"):
    """Somebody opened an account."""


@dataclass(frozen=True)
class AddressVerified(Event, name="account:address:verified"):
    """A person proved that they read mail at their address."""


@dataclass(frozen=True)
class ProfileChanged(Event, name="account:profile:changed"):
    """A person changed what the portal knows about them; `names` are field names."""

    names: str


@dataclass(frozen=True)
class RoleGranted(Event, name="account:role:granted"):
    """A person was given a staff role."""

    role: str


@dataclass(frozen=True)
class RoleEnded(Event, name="account:role:ended"):
    """A staff role ended."""

    role: str


@dataclass(frozen=True)
class StandingChanged(Event, name="account:standing:changed"):
    """A person's standing moved, because of the sanction or decision in `ref`."""

    standing: str
    ref: str


@dataclass(frozen=True)
class ProposalMade(Event, name="account:proposal:created"):
    """A grave act was proposed; `payload` is the digest of exactly what was."""

    action: str
    about: str
    payload: str


@dataclass(frozen=True)
class ProposalConfirmed(Event, name="account:proposal:confirmed"):
    """A second person confirmed a grave act."""

    action: str
    about: str


@dataclass(frozen=True)
class SignedIn(Event, name="identity:login_session:created"):
    """A person signed in by `means`."""

    means: str


@dataclass(frozen=True)
class SignedOut(Event, name="identity:login_session:ended"):
    """Login sessions ended; `reason` says why and `count` how many."""

    reason: str
    count: int


@dataclass(frozen=True)
class PasswordChanged(Event, name="identity:password:changed"):
    """A person set a password."""


@dataclass(frozen=True)
class Invited(Event, name="identity:link:created"):
    """A one-time link was made for a person."""

    purpose: str


@dataclass(frozen=True)
class VersionDrafted(Event, name="license:version:created"):
    """A draft of a license version was made."""

    number: str


@dataclass(frozen=True)
class VersionEdited(Event, name="license:version:changed"):
    """A draft of a license version was edited."""

    number: str


@dataclass(frozen=True)
class VersionPublished(Event, name="license:version:published"):
    """A license version was given its dates."""

    number: str
    materiality: str
    effective_at: str
    required_by: str


@dataclass(frozen=True)
class VersionSubmitted(Event, name="license:version:submitted"):
    """A draft of a license version was handed in for review."""

    number: str


@dataclass(frozen=True)
class VersionReturned(Event, name="license:version:returned"):
    """Review of a license version asked for changes; it is a draft again."""

    number: str


@dataclass(frozen=True)
class VersionApproved(Event, name="license:version:approved"):
    """A license version was approved: from now on no word of it changes. `shown` is the digest of all it says."""

    number: str
    materiality: str
    shown: str


@dataclass(frozen=True)
class VersionCommented(Event, name="license:version:commented"):
    """Somebody remarked on a license version."""

    number: str


@dataclass(frozen=True)
class VersionResolved(Event, name="license:version:resolved"):
    """The vote of a body of the licensor on a version was recorded."""

    number: str
    minutes_sha256: str


@dataclass(frozen=True)
class VersionCancelled(Event, name="license:version:cancelled"):
    """The date of a scheduled license version was called off."""

    number: str


@dataclass(frozen=True)
class VersionReviewed(Event, name="license:version:reviewed"):
    """Somebody uninvolved took a second look at a version that was put in force at once."""

    number: str
    finding: str


@dataclass(frozen=True)
class VersionReviewOverdue(Event, name="license:version:review_overdue"):
    """Nobody took that second look in time."""

    number: str


@dataclass(frozen=True)
class VersionRetired(Event, name="license:version:retired"):
    """A license version was retired: nothing asks for it any more; signatures of it stay true."""

    number: str


@dataclass(frozen=True)
class VersionArrived(Event, name="license:version:arrived"):
    """A scheduled license version came into force."""

    number: str


@dataclass(frozen=True)
class CeremonyOpened(Event, name="license:ceremony:opened"):
    """A person was shown a license version in order to sign."""

    version: str


@dataclass(frozen=True)
class LicenseSigned(Event, name="license:signature:created"):
    """A person signed exactly the bytes named by `text_sha256`; the evidence is bound by its salted digest."""

    version: str
    text_sha256: str
    annex_commitment: str


@dataclass(frozen=True)
class LicenseDeclined(Event, name="license:ceremony:declined"):
    """A person said that they do not sign a version."""

    version: str
    reason: str


@dataclass(frozen=True)
class SignatureAnnulled(Event, name="license:signature:annulled"):
    """A signature stopped binding: `kind` says whether its signer withdrew it or it was made in error."""

    kind: str
    reason: str


@dataclass(frozen=True)
class ReceiptMade(Event, name="license:receipt:created"):
    """The receipt of a signature was rendered and stored."""

    pdf_sha256: str


@dataclass(frozen=True)
class TokenIssued(Event, name="token:access_token:created"):
    """An access token was made for a person, `direct` or by `device_login`."""

    owner: str
    scopes: str
    means: str = "direct"


@dataclass(frozen=True)
class TokenRevoked(Event, name="token:access_token:revoked"):
    """An access token was ended by its owner or by staff."""

    owner: str


@dataclass(frozen=True)
class DeviceApproved(Event, name="oauth:device_code:approved"):
    """A person let a terminal in that showed them its code."""

    client: str
    scopes: str


@dataclass(frozen=True)
class DeviceDenied(Event, name="oauth:device_code:denied"):
    """A terminal was turned away: by the person, or because they may not be given an access token any more."""

    client: str
    reason: str


@dataclass(frozen=True)
class DeviceConsumed(Event, name="oauth:device_code:consumed"):
    """A terminal that was let in fetched its access token, the only one."""

    client: str
    access_token: str


@dataclass(frozen=True)
class ModelPublished(Event, name="model:commit:published"):
    """A commit of a model's files was published as a release."""

    revision: str
    license: str


@dataclass(frozen=True)
class CardDrafted(Event, name="model:card:drafted"):
    """A revision of a model card was drafted."""

    number: int


@dataclass(frozen=True)
class CardPublished(Event, name="model:card:published"):
    """A revision of a model card was published."""

    number: int


@dataclass(frozen=True)
class QuotaChanged(Event, name="usage:quota:changed"):
    """A person's daily limits were set."""

    calls: int
    text_tokens: int


@dataclass(frozen=True)
class SanctionOrdered(Event, name="moderation:sanction:ordered"):
    """A case decision imposed a sanction on a person."""

    case_decision: str
    user: str
    kind: str
    clauses: str


@dataclass(frozen=True)
class DecisionOverturned(Event, name="moderation:case_decision:overturned"):
    """A case decision was overturned and its effects recomputed."""

    user: str
    reason_sha256: str


@dataclass(frozen=True)
class AppealFiled(Event, name="moderation:appeal:filed"):
    """The person concerned contested a case decision."""

    case_decision: str


@dataclass(frozen=True)
class AppealDecided(Event, name="moderation:appeal:decided"):
    """An appeal was answered."""

    case_decision: str
    outcome: str


@dataclass(frozen=True)
class SaltErased(Event, name="audit:salt:erased"):
    """The salt of an event was erased, so that nobody can recognize the event in the log any more."""


@dataclass(frozen=True)
class LogKeyChanged(Event, name="audit:log_key:changed"):
    """The log was handed over to another key, the subject; `before` is the number of the key that signed until then."""

    before: str


@dataclass(frozen=True)
class UsageSealed(Event, name="usage:day:sealed"):
    """The usage records of a UTC day, the subject, were sealed; `sha256` is over the lines of their export."""

    number: int
    records: int
    sha256: str


SALT_SIZE = 32


def written(*, ref: str, name: str, subject: str, data: dict[str, Any], actor: str, at: str) -> bytes:
    """Write an event the one way that the log commits to."""
    return canonical({"id": ref, "name": name, "subject": subject, "data": data, "actor": actor, "at": at})
