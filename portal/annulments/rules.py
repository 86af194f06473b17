"""When somebody may decline, and what a signer is told whose signature stopped binding."""

from datetime import datetime

from portal.core.errors import Conflict
from portal.licensing import rules as licensing
from portal.licensing.rules import AnnulmentKind, CeremonyAction, CeremonyState, DeclineReason, ErrorReason

DECLINE_WORDS = {
    DeclineReason.UNSAID: "I would rather not say",
    DeclineReason.RESTRICTIONS: "I cannot observe one of the use restrictions",
    DeclineReason.NOT_AUTHORIZED: "I am not allowed to sign this",
    DeclineReason.UNCLEAR: "I do not understand the text",
    DeclineReason.NO_NEED: "I no longer need the model",
}
ERROR_WORDS = {
    ErrorReason.WRONG_PERSON: "Somebody else signed with this account",
    ErrorReason.WRONG_TEXT: "Another text was shown than the one on record",
    ErrorReason.TECHNICAL: "It came about by a fault of the portal",
}


def check_declinable(state: CeremonyState, expires_at: datetime, now: datetime) -> None:
    """Raise unless a ceremony can still end in declining."""
    if not licensing.CEREMONY.can(state, CeremonyAction.DECLINE):
        raise Conflict("ceremony_used", "You signed with this form already. A signature can be withdrawn on its page.")
    if now >= expires_at:
        raise Conflict("ceremony_expired", "This form is more than two hours old. Open the license again.")


def compose_annulled(kind: AnnulmentKind, *, title: str, ref: str, page: str) -> str:
    """Write the mail that tells a signer that a signature of theirs stopped binding."""
    if kind is AnnulmentKind.WITHDRAWN:
        what = f"You withdrew your signature of the {title} ({ref})."
    else:
        what = (
            f"Your signature of the {title} ({ref}) was voided: two members of staff found that it came about in error."
        )
    return (
        f"{what} What rests on it alone, downloads, completions and new access tokens, waits until you sign again. "
        "Copies that you hold stay under the text they came with, and the records of them stay. If this was not your "
        f"doing, answer this mail.\n\n{page}\n"
    )
