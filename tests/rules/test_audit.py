"""Events hold ids, and the page of events opens with the permission that accounts names."""

from dataclasses import fields

from portal.accounts.rules import Permission
from portal.audit.rules import EVENTS, Power


def test_the_power_to_read_events_is_the_permission_of_that_name() -> None:
    assert Power.READ.value == Permission.AUDIT_READ.value


def test_every_event_is_named_area_thing_verb_with_plain_fields() -> None:
    for name, event in EVENTS.items():
        assert event.name == name
        assert len(name.split(":")) == 3
        assert fields(event)[0].name == "subject"
        assert {field.type for field in fields(event)} <= {str, int, "str", "int"}
