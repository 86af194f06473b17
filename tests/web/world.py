"""A small world in which every address of the portal leads somewhere, and everybody who may call it."""

from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any

from portal.accounts.rules import Role
from portal.backtests import service as backtests
from portal.campaigns import service as campaigns
from portal.cases import service as cases
from portal.cases.rules import LinkKind
from portal.catalog import service as catalog
from portal.core.actor import SYSTEM
from portal.core.clock import utcnow
from portal.core.db import transaction
from portal.entitlements import service as entitlements
from portal.entitlements.rules import Mode
from portal.exemptions import service as exemptions
from portal.exemptions.rules import Purpose
from portal.grants.rules import SCOPES
from portal.grants.service import Desk
from portal.licensing import service as licensing
from portal.licensing.models import SignatureAnnex
from portal.moderation import service as moderation
from portal.programs import service as programs
from portal.proofs import service as proofs
from portal.redress import service as redress
from portal.rulebook import service as rulebook
from portal.tokens import service as tokens
from portal.witnesses import service as witnesses
from tests import conduct
from tests.detecting import DRAFT, measure
from tests.factories import CARD, FILES, Make

PEOPLE = ("anonymous", "member", "signed", "suspended", "license_editor", "card_editor", "moderator", "admin")
PROGRAMS = ("none", "bad", "unsigned", "signed", "no_scope", "suspended")


@dataclass
class World:
    """Everybody and everything by name.

    Args:
        app: the control plane.
        users: people by kind.
        secrets: access tokens by kind of program.
        values: what stands in for the variable parts of addresses.
    """

    app: Any
    users: dict[str, Any]
    secrets: dict[str, str]
    values: dict[str, str]


def build(app: Any) -> World:
    """Fill an app's database."""
    now = utcnow()
    for body in FILES.values():
        path = app.extensions["store"].path(sha256(body).hexdigest())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    with transaction(app.engine) as session:
        make = Make(session, now)
        roles = {role.value: (role,) for role in Role}
        users = {name: make.person(name, *roles.get(name, ())) for name in PEOPLE if name != "anonymous"}
        signatures = {name: make.sign(users[name]) for name in ("signed", "suspended")}
        for signature in signatures.values():
            session.add(SignatureAnnex(signature_id=signature.id, salt=b"salt", evidence=b"{}"))
        model = make.model("lab/model")
        release = make.release(model)
        dataset = make.model("datasets/lab/model")
        make.release(dataset)
        for one in (model, dataset):
            catalog.save_draft(session, model=one, text=CARD + "\nMore.\n", note="More.", by=SYSTEM, now=now)
        asked = make.model("lab/asked")
        form: dict[str, Any] = {"model_id": asked.id, "model_ref": asked.public_id, "by": SYSTEM, "now": now}
        entitlements.set_form(session, mode=Mode.MANUAL, **form)
        request = entitlements.submit(
            session, user_id=users["signed"].id, model_id=asked.id, purpose="To see who may look at this.", by=SYSTEM,
            now=now,
        )  # fmt: skip
        secrets = {"none": "", "bad": "lmp_" + "x" * 49}
        owned = {}
        pepper = app.settings.pepper
        for name, owner, scopes in (
            ("unsigned", "member", ["weights:read", "inference", "usage:read"]),
            ("signed", "signed", ["weights:read", "inference", "usage:read"]),
            ("no_scope", "signed", ["usage:read"]),
            ("suspended", "suspended", ["weights:read", "inference", "usage:read"]),
            ("spare", "signed", ["inference"]),
        ):
            owned[name], secrets[name] = tokens.issue(
                session, by=conduct.acting(users[owner]), owner_id=users[owner].id, name=name, scopes=scopes,
                model_ids=[], days=30, pepper=pepper, now=now,
            )  # fmt: skip
        order: dict[str, Any] = {
            "user_id": users["suspended"].id, "clause_keys": ["restriction.spam"], "facts": "Spam.",
            "until": now + timedelta(days=30), "base_url": app.settings.base_url, "now": now,
        }  # fmt: skip
        digest = conduct.preview(session, **order).sha256
        decision = moderation.suspend(session, by=SYSTEM, notice_sha256=digest, **order)
        sanction = decision.sanctions[0].public_id
        acting = conduct.acting(users["suspended"])
        redress.file_appeal(session, by=acting, ref=sanction, text="No.", base_url=app.settings.base_url, now=now)
        case = cases.linked(session, kind=LinkKind.DECISION, ref=decision.public_id)
        assert case is not None
        spare = cases.open_case(
            session, subject_ref=users["signed"].public_id, origin="staff", clause_refs=(), severity=1, evidence={},
            dedupe_key="spare", now=now, by=SYSTEM,
        )  # fmt: skip
        version = licensing.find_version(session, slug=conduct.SLUG, number="2.0.0")
        preview = campaigns.ask(session, version=version, effective_at=now, required_by=now, by=SYSTEM, now=now)
        campaign = campaigns.open_campaign(session, version=version)
        rule = rulebook.write(session, draft=DRAFT, banks=None, measure=measure, by=SYSTEM, now=now)
        backtest = backtests.ask(session, rule=rule, days=30, by=SYSTEM, now=now)
        exemption = exemptions.grant(
            session, person=users["signed"].public_id, purpose=Purpose.TEACHING, license_slug=conduct.SLUG,
            clause_keys=["restriction.spam"], model_name="", safeguards="None.", since=now,
            until=now + timedelta(days=30), page="", by=SYSTEM, now=now,
        )  # fmt: skip
        values = {
            "rule": rule.public_id, "<move>": "shadow", "backtest": backtest.public_id,
            "exemption": exemption.public_id,
            "<any(models, datasets):kind>": "models", "<namespace>": "lab", "<name>": "model",
            "<slug>": conduct.SLUG, "<number>": "2.0.0",
            "<int(max=1000000):number>": "1", "<int(max=1000000):old>": "1", "<int(max=1000000):new>": "1",
            "<key>": "restriction.spam",
            "sanction": sanction, "case": case.public_id, "claimable": spare.public_id,
            "signature": signatures["signed"].public_id, "token": owned["spare"].public_id,
            "preview": preview.public_id, "campaign": campaign.public_id if campaign else "", "<step>": "pause",
            "<day>": "2026-01-01",
            "model": model.public_id, "request": request.public_id, "upload": "upl_none",
            "<revision>": release.revision,
            "<status>": "pending", "<int:number>": "1",
            "person": users["signed"].public_id, "<int:level>": "0", "<path:place>": "000.p/1",
        }  # fmt: skip
        values["program"] = _program(session, app, users["signed"], now)
    with transaction(app.engine) as session:
        proofs.advance(session, key=app.extensions["log_key"], origin="portal.example", kept=None, now=now)
        witnesses.note_day(session, day="2026-01-01", now=now)
    return World(app, users, secrets, values)


def _program(session: Any, app: Any, user: Any, now: Any) -> str:
    """Register a program that somebody let act for them."""
    program, _ = programs.register(
        session, name="Notebook", homepage="https://notebook.example", redirect_uris="https://notebook.example/back",
        scopes=SCOPES, known=SCOPES, keeps_secret=True, by=SYSTEM, pepper=app.settings.pepper, now=now,
    )  # fmt: skip
    desk = Desk(
        session,
        pepper=app.settings.pepper,
        base_url=app.settings.base_url,
        now=now,
        by=conduct.acting(user),
        keys=app.extensions["statement_keys"],
    )
    back = "https://notebook.example/back"
    desk.keep_code(program, redirect_uri=back, scopes="usage:read", challenge="x", nonce="")
    return program.public_id


def address(world: World, method: str, rule: str) -> str:
    """Return a real address of a rule."""
    special = {
        "/appeal/<ref>": "sanction", "/staff/cases/<ref>/claim": "claimable", "/staff/cases/<ref>": "case",
        "/settings/signatures/<ref>": "signature",
        "/staff/signatures/<ref>": "signature", "/staff/campaigns/<ref>": "campaign",
        "/settings/acknowledgments/<ref>": "campaign",
        "/staff/previews/<ref>": "preview", "/staff/rules/<ref>": "rule", "/staff/backtests/<ref>": "backtest",
        "/staff/exemptions/<ref>": "exemption",
        "/staff/models/<ref>": "model", "/staff/requests/<ref>": "request", "/api/uploads/<ref>": "upload",
        "/settings/programs/<ref>": "program", "/staff/programs/<ref>": "program",
        "/settings/tokens/<ref>": "token", "/staff/people/<ref>": "person", "/staff/usage/quota/<ref>": "person",
    }  # fmt: skip
    for start, name in special.items():
        if rule.startswith(start):
            rule = rule.replace("<ref>", world.values[name])
    v1 = "completions" if method == "POST" else "models"
    rest = {"resolve": "main/model.safetensors", "blob": "main/config.json", "v1": v1, ".git": "info/refs"}
    for segment, value in rest.items():
        if f"{segment}/<path:rest>" in rule:
            rule = rule.replace("<path:rest>", value)
    rule = rule.replace("<path:rest>", "main").replace("<secret>", "no-such-secret")
    for part, value in world.values.items():
        rule = rule.replace(part, value) if part.startswith("<") else rule
    return rule
