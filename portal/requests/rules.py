"""Answers to access requests, in the words of the Hub, and the moves that they stand for."""

from enum import StrEnum

from portal.entitlements.rules import RequestAction, RequestState

NO_REASON = "The reviewer gave no reason."


class Answer(StrEnum):
    """How an access request is answered, in the words of the Hub."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    PENDING = "pending"
    RESET = "reset"


STATES = {
    Answer.ACCEPTED: RequestState.APPROVED, Answer.REJECTED: RequestState.REJECTED,
    Answer.PENDING: RequestState.SUBMITTED, Answer.RESET: RequestState.RESET,
}  # fmt: skip
LAST = {
    Answer.ACCEPTED: RequestAction.APPROVE, Answer.REJECTED: RequestAction.REJECT, Answer.PENDING: RequestAction.REOPEN,
    Answer.RESET: RequestAction.RESET,
}  # fmt: skip
STATUS = {state: answer for answer, state in STATES.items()}
