"""May this actor do this to this model: the one decision that every channel asks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from portal.accounts.rules import Standing, standing_at
from portal.catalog.rules import ModelState
from portal.entitlements import rules as entitlements
from portal.licensing.rules import Satisfaction, SignatureFact, Sufficiency, VersionFact, in_force, satisfies
from portal.sanctions.rules import SanctionFact, bars
from portal.tokens.rules import UNUSABLE, Scope
from portal.usage.rules import Limits, Used, exceeded, seconds_to_midnight


class Action(StrEnum):
    """What somebody wants to do with a model."""

    READ = "read"
    ASK = "ask"
    DOWNLOAD = "download"
    INFER = "infer"
    RENEW = "renew"


class Follows(StrEnum):
    """Which version of a license a requirement means: the one pinned by the release, or the newest in force."""

    RELEASE = "release"
    LICENSE = "license"


class Grace(StrEnum):
    """How much a due signature still allows."""

    STANDARD = "standard"
    STRICT = "strict"


class Pass(StrEnum):
    """What a signature that is not sufficient still lets through; `FINISH` only what was already begun."""

    ALLOW = "allow"
    WARN = "warn"
    FINISH = "finish"
    REFUSE = "refuse"


A, W, F, R = Pass.ALLOW, Pass.WARN, Pass.FINISH, Pass.REFUSE
GRACE: Mapping[tuple[Sufficiency, Grace], Mapping[Action, Pass]] = {
    (sufficiency, grace): dict(zip(Action, row, strict=True))
    for sufficiency, rows in {  # to read, ask, download, infer, renew; first standard, then strict
        Sufficiency.SUFFICIENT: ((A, A, A, A, A),) * 2,
        Sufficiency.DUE: ((W, W, F, W, R), (W, R, R, W, R)),
        Sufficiency.LAPSED: ((W, R, R, F, R),) * 2,
        Sufficiency.MISSING: ((A, R, R, R, R),) * 2,
        Sufficiency.DECLINED: ((A, R, R, R, R),) * 2,
    }.items()
    for grace, row in zip(Grace, rows, strict=True)
}
STATEMENT, CONTACT = "Read the statement of reasons; you can appeal there.", "Contact the operators."
SCOPES = {Action.DOWNLOAD: Scope.WEIGHTS_READ, Action.INFER: Scope.INFERENCE}
GOOD_BUT = ("access_token_wrong_model", "access_token_frozen")  # the access token itself is as good as any
STATUS_BY_STAGE = {1: 403, 2: 404, 3: 403, 4: 403, 5: 403, 6: 429}


@dataclass(frozen=True)
class Reason:
    """One thing that stands in the way, or is about to, with what to do about it.

    Args:
        stage: 1 standing, 2 model, 3 access token, 4 signature, 5 asking, 6 quota.
        blocks: False for a warning.
        message: one sentence.
        remedy_text, url: what helps, and where.
        due_at: until when, where there is a date.
        retry_after: seconds, for quotas.
    """

    code: str
    stage: int
    blocks: bool
    message: str
    remedy_text: str = ""
    url: str = ""
    due_at: datetime | None = None
    retry_after: int | None = None

    @property
    def state(self) -> str:
        """How a checklist marks it."""
        return "unmet" if self.blocks else "due"


@dataclass(frozen=True)
class Relied:
    """A signature that a decision rests on, and for which license."""

    license_slug: str
    license_number: str
    signature_id: int
    signature_ref: str


@dataclass(frozen=True)
class Decision:
    """Yes or no, with all reasons.

    Args:
        reasons: blocking ones and warnings, in the order of the stages.
        relied_on: the signatures that the answer rests on.
        met: what was checked and holds, for the checklist: (code, message).
        until: the first instant at which the clock alone could change the answer.
    """

    action: Action
    reasons: tuple[Reason, ...]
    relied_on: tuple[Relied, ...] = ()
    met: tuple[tuple[str, str], ...] = ()
    as_of: datetime | None = None
    until: datetime | None = None

    @property
    def allowed(self) -> bool:
        """Say whether nothing blocks."""
        return not self.blocking

    @property
    def blocking(self) -> tuple[Reason, ...]:
        """The reasons that block."""
        return tuple(r for r in self.reasons if r.blocks)

    @property
    def warnings(self) -> tuple[Reason, ...]:
        """The reasons that only warn."""
        return tuple(r for r in self.reasons if not r.blocks)

    @property
    def status(self) -> int:
        """The HTTP status of the first blocking reason; quota counts only when nothing else blocks; 200 if allowed."""
        if self.allowed:
            return 200
        if (first := self.blocking[0]).code == "model_withdrawn":
            return 410
        if first.code == "not_signed_in" or (first.code.startswith("access_token_") and first.code not in GOOD_BUT):
            return 401
        return STATUS_BY_STAGE[first.stage]


@dataclass(frozen=True)
class RequirementFact:
    """A requirement of a license with all that its sufficiency depends on.

    Args:
        follows, grace: as the requirement says.
        pinned: number pinned by the release.
        versions: published versions of the license.
        signatures: the person's signatures of the license.
        reached: license number → when the person was reached by its notice.
        declined: ids of the versions that the person said they do not sign.
    """

    slug: str
    title: str
    follows: Follows
    grace: Grace
    pinned: str
    versions: tuple[VersionFact, ...]
    signatures: tuple[SignatureFact, ...] = ()
    reached: Mapping[str, datetime] | None = None
    declined: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Facts:
    """All that a decision depends on; `model_name` None stands for a model that does not exist for this caller."""

    base_url: str
    model_name: str | None
    model_state: ModelState = ModelState.PUBLISHED
    is_dataset: bool = False
    has_release: bool = True
    signed_in: bool = False
    verified: bool = False
    standing: Standing = Standing.ACTIVE
    standing_until: datetime | None = None
    standing_ref: str | None = None
    token_used: bool = False
    token_error: str | None = None
    token_scopes: frozenset[str] = frozenset()
    token_wrong_model: bool = False
    requirements: tuple[RequirementFact, ...] = ()
    asking: entitlements.AskFact = entitlements.NOTHING
    sanctions: tuple[SanctionFact, ...] = ()
    holds_copy: bool = False
    already_running: bool = False
    limits: Limits | None = None
    used: Used | None = None


class _Findings:
    """What the stages found so far."""

    def __init__(self) -> None:
        self.reasons: list[Reason] = []
        self.met: list[tuple[str, str]] = []
        self.relied: list[Relied] = []
        self.instants: list[datetime] = []


def decide(facts: Facts, action: Action, now: datetime) -> Decision:
    """Decide whether an actor may do something to a model, and say everything that stands in the way.

    Two exceptions protect people: a hidden model yields only that, and an unusable access token only its own reason.
    """
    if facts.model_name is None or (facts.model_state is ModelState.DRAFT):
        reason = Reason("model_not_found", 2, True, "There is no such model here.")
        return Decision(action, (reason,), as_of=now)
    if facts.token_error is not None:
        return Decision(action, (_token_reason(facts, facts.token_error),), as_of=now)
    findings = _Findings()
    for stage in _STAGES[action]:
        stage(facts, action, now, findings)
    order = sorted(findings.reasons, key=lambda r: r.stage)
    until = min((i for i in findings.instants if i > now), default=None)
    return Decision(action, tuple(order), tuple(findings.relied), tuple(findings.met), now, until)


def _token_reason(facts: Facts, code: str) -> Reason:
    url = f"{facts.base_url}/settings/tokens"
    return Reason(code, 3, True, UNUSABLE[code], "Create a new access token.", url)


def _standing(facts: Facts, _action: Action, now: datetime, out: _Findings) -> None:
    base = facts.base_url
    if not facts.signed_in:
        remedy = "Sign in, or send an access token."
        out.reasons.append(Reason("not_signed_in", 1, True, "You are not signed in.", remedy, f"{base}/login"))
        return
    if facts.verified:
        out.met.append(("address_verified", "Your e-mail address is confirmed."))
    else:
        message, remedy = "Your e-mail address is not confirmed.", "Open the link that was mailed to you."
        out.reasons.append(Reason("address_unverified", 1, True, message, remedy, f"{base}/settings/profile"))
    ended = facts.standing_until is not None and now >= facts.standing_until
    standing = standing_at(facts.standing, ended)
    if facts.standing_until is not None:
        out.instants.append(facts.standing_until)
    if standing is Standing.SUSPENDED:
        url = f"{base}/appeal/{facts.standing_ref}"
        message = f"Your account is suspended until {facts.standing_until:%Y-%m-%d %H:%M} UTC."
        out.reasons.append(Reason("standing_suspended", 1, True, message, STATEMENT, url, facts.standing_until))
    elif standing is Standing.CLOSED:
        told = (facts.standing_ref or "").startswith("san_")
        url, remedy = (f"{base}/appeal/{facts.standing_ref}", STATEMENT) if told else (base, CONTACT)
        out.reasons.append(Reason("standing_closed", 1, True, "This account is closed.", remedy, url))
    else:
        out.met.append(("standing_active", "Your account is in good standing."))


def _model(facts: Facts, action: Action, _now: datetime, out: _Findings) -> None:
    url = f"{facts.base_url}/{facts.model_name}"
    if facts.is_dataset and action is Action.INFER:
        message, remedy = f"{facts.model_name} is a dataset, which answers no prompts.", "Download it, or name a model."
        out.reasons.append(Reason("model_is_dataset", 2, True, message, remedy, url))
    elif facts.model_state is ModelState.WITHDRAWN and action is not Action.READ:
        message = "This model was withdrawn."
        out.reasons.append(Reason("model_withdrawn", 2, True, message, "Its card names the successor.", url))
    elif not facts.has_release and action in {Action.DOWNLOAD, Action.INFER}:
        message = "No weights of this model are published here yet."
        out.reasons.append(Reason("model_without_weights", 2, True, message, "Its card says how to mirror them.", url))


def _token(facts: Facts, action: Action, _now: datetime, out: _Findings) -> None:
    scope = SCOPES.get(action)
    if not facts.token_used or scope is None:
        return
    url = f"{facts.base_url}/settings/tokens"
    if scope.value not in facts.token_scopes:
        message = f"This access token lacks the scope {scope.value}."
        out.reasons.append(Reason("scope_missing", 3, True, message, f"Create one with the scope {scope.value}.", url))
    if facts.token_wrong_model:
        message = f"This access token is bound to other models than {facts.model_name}."
        out.reasons.append(Reason(GOOD_BUT[0], 3, True, message, f"Create one that includes {facts.model_name}.", url))


def required_version(requirement: RequirementFact, now: datetime) -> VersionFact | None:
    """Return the version that a requirement asks for now: the release's pin, or the one in force.

    Where that is missing, the first one that is published: a gap in the texts opens nothing.
    """
    found = None
    if requirement.follows is Follows.RELEASE:
        found = next((v for v in requirement.versions if v.number == requirement.pinned), None)
    first = min(requirement.versions, key=lambda v: v.ordinal, default=None)
    return found or in_force(requirement.versions, now) or first


def _signatures(facts: Facts, action: Action, now: datetime, out: _Findings) -> None:
    for requirement in facts.requirements:
        version = required_version(requirement, now)
        if version is None:
            _nothing_to_sign(facts, requirement, action, out)
            continue
        out.instants += [v.effective_at for v in requirement.versions]
        reached = requirement.reached or {}
        result = satisfies(requirement.signatures, requirement.versions, version, reached, now, requirement.declined)
        if result.binds_at is not None:
            out.instants.append(result.binds_at)
        _signature(facts, requirement, result, action, out)


def _nothing_to_sign(facts: Facts, requirement: RequirementFact, action: Action, out: _Findings) -> None:
    if GRACE[Sufficiency.MISSING, requirement.grace][action] is Pass.REFUSE:
        message = f"{requirement.title} must be signed, and no version of it is published yet."
        url = f"{facts.base_url}/licenses/{requirement.slug}"
        out.reasons.append(Reason("signature_missing", 4, True, message, "Come back once it is published.", url))


def _signature(
    facts: Facts, requirement: RequirementFact, result: Satisfaction, action: Action, out: _Findings
) -> None:
    how = GRACE[result.sufficiency, requirement.grace][action]
    begun = facts.already_running or (action is Action.DOWNLOAD and facts.holds_copy)
    blocks = how is Pass.REFUSE or (how is Pass.FINISH and not begun)
    if result.signature is not None and not blocks:
        number = _number(requirement, result.signature)
        out.relied.append(Relied(requirement.slug, number, result.signature.id, result.signature.public_id))
    if result.sufficiency is Sufficiency.SUFFICIENT:
        signed = _number(requirement, result.signature) if result.signature else ""
        out.met.append(("signature_sufficient", f"You signed {requirement.title} {signed}."))
        return
    if how is Pass.ALLOW:
        return
    number = result.required.number
    url = f"{facts.base_url}/licenses/{requirement.slug}/{number}/sign"
    name = f"{requirement.title} {number}"
    if result.sufficiency is Sufficiency.MISSING:
        message, remedy = f"You have not signed {name}.", "Read and sign the license."
    elif result.sufficiency is Sufficiency.DECLINED:
        message, remedy = f"You declined to sign {name}.", "Read it again, and sign after all."
    elif result.sufficiency is Sufficiency.DUE:
        by = f" by {result.binds_at:%Y-%m-%d %H:%M} UTC" if result.binds_at else ""
        message, remedy = f"Sign {name}{by}: the license changed since you signed.", "See what changed, and sign."
    else:
        message, remedy = f"Your signature lapsed: {name} is required now.", "See what changed, and sign."
    code = f"signature_{result.sufficiency.value}"
    out.reasons.append(Reason(code, 4, blocks, message, remedy, url, result.binds_at))


def _number(requirement: RequirementFact, signature: SignatureFact) -> str:
    return signature.number or next((v.number for v in requirement.versions if v.id == signature.version_id), "")


def _asking(facts: Facts, action: Action, now: datetime, out: _Findings) -> None:
    name, url = str(facts.model_name), f"{facts.base_url}/{facts.model_name}/request"
    for f in entitlements.found(facts.asking, name, now, asking=action is Action.ASK):
        out.reasons.append(Reason(f.code, 5, f.blocks, f.message, f.remedy, url, f.due_at))
    out.met += entitlements.met(facts.asking, name, now)
    out.instants += entitlements.instants(facts.asking)


def _sanctions(facts: Facts, action: Action, now: datetime, out: _Findings) -> None:
    signed = [s.signed_at for r in facts.requirements for s in r.signatures if s.ended_at is None and s.signed_at]
    last = max(signed, default=None)
    for bar in bars(facts.sanctions, action=action, model=str(facts.model_name), signed_at=last, now=now):
        url = f"{facts.base_url}/appeal/{bar.ref}"
        out.reasons.append(Reason(bar.code, bar.stage, bar.blocks, bar.message, STATEMENT, url, bar.until))
    out.instants += [s.ends_at for s in facts.sanctions if s.ends_at is not None]


def _quota(facts: Facts, action: Action, now: datetime, out: _Findings) -> None:
    if action is not Action.INFER or facts.limits is None or facts.used is None or facts.already_running:
        return
    code = exceeded(facts.used, facts.limits)
    if code is None and facts.used.text_tokens >= facts.limits.text_tokens:
        code = "quota_text_tokens"
    if code is not None:
        out.reasons.append(quota_reason(code, facts.limits, facts.base_url, now))
        out.instants.append(now + timedelta(seconds=seconds_to_midnight(now)))


def quota_reason(code: str, limits: Limits, base_url: str, now: datetime) -> Reason:
    """Return the reason for a used-up limit, with the seconds until the day ends."""
    wait = seconds_to_midnight(now)
    what = f"{limits.calls:,} requests" if code == "quota_calls" else f"{limits.text_tokens:,} text tokens"
    message = f"Your limit of {what} a day (UTC) is used up."
    remedy = "Wait for the next day, or ask the operators for more."
    return Reason(code, 6, True, message, remedy, f"{base_url}/settings/usage", retry_after=wait)


Stage = Callable[[Facts, Action, datetime, _Findings], None]
_STAGES: Mapping[Action, Sequence[Stage]] = {
    Action.READ: (_model, _signatures),
    Action.ASK: (_standing, _model, _signatures, _asking, _sanctions),
    Action.DOWNLOAD: (_standing, _model, _token, _signatures, _asking, _sanctions),
    Action.INFER: (_standing, _model, _token, _signatures, _asking, _sanctions, _quota),
    Action.RENEW: (_standing, _model, _signatures, _asking, _sanctions),
}
