"""Measuring uses, and keeping what was measured."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.banks.rules import plain
from portal.banks.service import Found, Scanner
from portal.features.models import FeatureVector
from portal.features.rules import FEATURES, HEAD, TAIL, Kind, Look, Pace, Value, Vector
from portal.nearness import service as nearness
from portal.nearness.rules import scripts
from portal.redaction.rules import sensitive
from portal.usage.models import UsageRecord
from portal.usage.rules import Outcome

# Features that are banks by themselves, and need not be named.
OWN_BANKS = frozenset({"intent_bulk", "intent_persona", "intent_advice", "inject"})
KEPT, VARIED = timedelta(days=90), timedelta(days=3)
PATIENCE = timedelta(seconds=30)
USES_MAX = 200_000


def _no_language(_text: str) -> str:
    return ""


@dataclass(frozen=True)
class Tools:
    """What looking at whole texts needs.

    Args:
        scanner: the banks.
        seed: a secret of the deployment, for signatures.
        language: guesses the language of a text.
        judged: what outside judges said of the text that is looked at, by clause.
    """

    scanner: Scanner
    seed: int
    language: Callable[[str], str] = _no_language
    judged: Mapping[str, int] = field(default_factory=dict)


def vector(scanner: Scanner, text: str) -> Vector:
    """Measure a text by itself, as a prompt and as an answer: what an example of a rule is tried on."""
    found = scanner.scan(text)
    return counts(scanner, found) | counts(scanner, found, "output_") | {"chars": len(text)}


def counts(scanner: Scanner, found: Found, prefix: str = "") -> Vector:
    """Say what was found, bank by bank; banks of which nothing was found are left out.

    Args:
        scanner: the banks.
        found: what was found.
        prefix: ``output_`` for what an engine wrote.
    """
    made: dict[str, int] = {}
    for kind, numbers, banks in (
        ("phrases", found.phrases, scanner.phrase_banks), ("patterns", found.patterns, scanner.pattern_banks)
    ):  # fmt: skip
        for number in numbers:
            bank = banks[number]
            if not prefix and bank in OWN_BANKS:
                made[bank] = made.get(bank, 0) + 1
            else:
                key = f'{prefix}{kind}("{bank}")'
                made[key] = made.get(key, 0) + 1
    if found.disguised and not prefix:
        made["disguised"] = len(found.disguised)
    return dict(made)


def purpose_key(pepper: bytes, purpose: str) -> bytes:
    """Return the key for one purpose; whoever has one of them learns nothing of the others."""
    return blake2b(purpose.encode(), key=pepper[:64], digest_size=32).digest()


def digest_of(clear: str, key: bytes) -> str:
    """Return the keyed digest of a text in plain form, by which equal ones are counted."""
    return blake2b(clear.encode("utf-8", "replace"), key=key, digest_size=16).hexdigest()


def record(session: Session, *, use: UsageRecord, line: Mapping[str, Any]) -> FeatureVector | None:
    """Keep what the journal says was measured of a use; entering it again changes nothing.

    Args:
        session: the database.
        use: the usage record of the line.
        line: from the journal; nothing is kept of one that measured nothing.
    """
    values = line.get("features")
    if values is None:
        return None
    row = session.get(FeatureVector, use.id)
    if row is None:
        row = FeatureVector(
            usage_record_id=use.id, user_id=use.user_id, at=use.started_at, values=dict(values),
            digest=str(line.get("digest", "")), license=str(line.get("license", "")), model_id=line.get("model_id"),
            route=str(line.get("route", "")), applied=dict(line.get("hits") or {}), look=Look.PENDING, looked_at=None,
        )  # fmt: skip
        session.add(row)
        session.flush()
    elif row.look is Look.PENDING:  # the line of its beginning came first
        row.values, row.applied = {**row.values, **values}, dict(line.get("hits") or {})
        session.flush()
    return row


def waiting(session: Session, *, request_ids: Sequence[str]) -> dict[str, FeatureVector]:
    """Return the vectors of ended uses whose texts were not looked at yet, by request id."""
    rows = session.execute(
        sa.select(UsageRecord.request_id, FeatureVector)
        .join(UsageRecord, UsageRecord.id == FeatureVector.usage_record_id)
        .where(
            UsageRecord.request_id.in_(request_ids), FeatureVector.look == Look.PENDING,
            UsageRecord.outcome != Outcome.OPEN,
        )
    )  # fmt: skip
    return {name: row for name, row in rows}  # noqa: C416 - rows are no pairs to type checkers


def overdue(session: Session, *, now: datetime, limit: int) -> dict[str, FeatureVector]:
    """Return vectors of ended uses whose texts should have come by now, oldest first, by request id."""
    late = sa.and_(FeatureVector.look == Look.PENDING, UsageRecord.finished_at < now - PATIENCE)
    joined = sa.select(UsageRecord.request_id, FeatureVector).join(
        UsageRecord, UsageRecord.id == FeatureVector.usage_record_id
    )
    rows = session.execute(joined.where(late).order_by(FeatureVector.at, FeatureVector.usage_record_id).limit(limit))
    return {name: row for name, row in rows}  # noqa: C416 - rows are no pairs to type checkers


def look(session: Session, *, row: FeatureVector, text: Mapping[str, str], tools: Tools, now: datetime) -> Vector:
    """Measure what only the whole text tells, keep it with the vector, and return all of it."""
    prompt, output = text.get("prompt", ""), text.get("output", "")
    clear = plain(prompt)
    made: Vector = {"scanned": True, "scripts": frozenset(scripts(clear))}
    if lang := tools.language(prompt):
        made["lang"] = lang
    for kind, count in sensitive(prompt).items():
        made[kind] = count
    if len(prompt) > HEAD + TAIL:  # before, only its beginning and its end were looked at
        made |= counts(tools.scanner, tools.scanner.scan(prompt))
    if row.user_id is not None:
        made |= _near(session, row, {"prompt": clear, "output": plain(output)}, tools.seed)
        varied = sa.and_(FeatureVector.user_id == row.user_id, FeatureVector.at > row.at - VARIED)
        query = sa.select(sa.func.count(FeatureVector.digest.distinct())).where(varied, FeatureVector.at <= row.at)
        made["distinct_72h"] = session.scalar(query) or 0
    for clause, breaks in tools.judged.items():
        made[FEATURES["judge"].key(clause)] = breaks
    whole = read(row.values) | made
    row.values, row.look, row.looked_at = written(whole), Look.DONE, now
    session.flush()
    return whole


def _near(session: Session, row: FeatureVector, texts: Mapping[str, str], seed: int) -> Vector:
    """Count texts that are nearly the same; of prompt and output, the one with more of them counts."""
    found, fans = [nearness.Near()], [0]
    for part, text in texts.items():
        noted = nearness.note(
            session, usage_record_id=row.usage_record_id, user_id=row.user_id or 0, part=part, text=text, seed=seed,
            at=row.at,
        )  # fmt: skip
        if noted is not None:
            found.append(nearness.neighbors(session, row=noted))
            fans.append(nearness.fan_out(session, row=noted))
    near = {
        "near_24h": max(one.own for one in found), "near_others_24h": max(one.others for one in found),
        "near_accounts_24h": max(one.people for one in found),
        "near_expected_24h": max(one.by_chance for one in found), "fanout_24h": max(fans),
    }  # fmt: skip
    return {name: count for name, count in near.items() if count}


def lose(session: Session, *, row: FeatureVector, now: datetime) -> Vector:
    """Note that the text of a use never came, and return what was measured of it."""
    row.look, row.looked_at = Look.LOST, now
    session.flush()
    return read(row.values)


def read(values: Mapping[str, Any]) -> Vector:
    """Return a vector as it was measured; JSON knows no sets."""
    made: Vector = {}
    for key, value in values.items():
        feature = FEATURES.get(key)
        made[key] = frozenset(value) if feature is not None and feature.kind is Kind.SET else value
    return made


def written(vector: Mapping[str, Value]) -> dict[str, Any]:
    """Return a vector as JSON has it; the other way round of `read`."""
    return {key: sorted(value) if isinstance(value, frozenset) else value for key, value in vector.items()}


def vectors(
    session: Session, *, since: datetime, until: datetime, limit: int | None = None
) -> Iterable[tuple[int, int | None, datetime, Vector]]:
    """Yield usage record, person, time and vector of the uses of a span, oldest first, a thousand at a time."""
    rows = (
        sa.select(FeatureVector.usage_record_id, FeatureVector.user_id, FeatureVector.at, FeatureVector.values)
        .where(FeatureVector.at >= since, FeatureVector.at < until)
        .order_by(FeatureVector.at, FeatureVector.usage_record_id)
        .limit(limit)
        .execution_options(yield_per=1_000)
    )
    for record_id, user_id, at, values in session.execute(rows):
        yield record_id, user_id, at, read(values)


def load_pace(session: Session, pace: Pace, *, unplayed: Sequence[Mapping[str, Any]] = (), now: datetime) -> None:
    """Bring counters to where the records of the last weeks, and the journal that is not replayed yet, left them."""
    uses = UsageRecord
    asked = sa.and_(uses.action == "infer", uses.user_id.is_not(None))
    person = sa.func.coalesce(uses.user_id, 0)
    begin = (now - timedelta(days=28)).date().isoformat()
    days = (
        sa.select(person, uses.day, sa.func.count()).where(asked, uses.day >= begin)
        .group_by(uses.user_id, uses.day).order_by(uses.day)
    )  # fmt: skip
    pace.load_days(
        (who, datetime.fromisoformat(f"{day}T12:00:00+00:00").timestamp(), count)
        for who, day, count in session.execute(days)
    )
    last_day = (
        sa.select(person, uses.started_at, uses.prompt_tokens + uses.completion_tokens, uses.request_id)
        .where(asked, uses.started_at >= now - timedelta(days=1)).order_by(uses.started_at.desc()).limit(USES_MAX)
    )  # fmt: skip
    recorded = [(who, at.timestamp(), tokens, name) for who, at, tokens, name in session.execute(last_day)][::-1]
    known = {name for *_, name in recorded}
    late = {str(line["id"]): line for line in unplayed if line.get("features") is not None and line.get("user_id")}
    rest = sorted(
        ((datetime.fromisoformat(line["started_at"]).timestamp(), line) for line in late.values()
         if str(line["id"]) not in known), key=lambda one: one[0],
    )  # fmt: skip
    pace.load_uses([(who, at, tokens) for who, at, tokens, _ in recorded])
    pace.load_uses((line["user_id"], at, int(line.get("reserved", 0))) for at, line in rest)
    pace.load_days((line["user_id"], at, 1) for at, line in rest)
    texts = (
        sa.select(FeatureVector.digest, FeatureVector.at)
        .where(FeatureVector.at >= now - timedelta(hours=1)).order_by(FeatureVector.at)
    )  # fmt: skip
    pace.load_texts((digest, at.timestamp()) for digest, at in session.execute(texts))
    pace.load_texts((str(line.get("digest", "")), at) for at, line in rest)


def forget(session: Session, *, now: datetime) -> int:
    """Delete vectors that are older than they may be kept, and return how many there were."""
    gone = session.execute(sa.delete(FeatureVector).where(FeatureVector.at < now - KEPT))
    return int(gone.rowcount)  # type: ignore[attr-defined]
