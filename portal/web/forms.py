"""Forms: HTML input made into checked values."""

import unicodedata
from typing import Any

from flask_wtf import FlaskForm

from portal.core.errors import PortalError


class PortalForm(FlaskForm):
    """A form of the portal; the guard checks its one-time value, so the form does not do it again."""

    class Meta:
        """Settings of WTForms."""

        csrf = False

    def read(self, name: str) -> str:
        """Return a text field's value: trimmed, in Unicode normal form C, never None."""
        return unicodedata.normalize("NFC", str(self[name].data or "")).strip()

    def add_error(self, name: str, message: str) -> None:
        """Put an error on a field."""
        field: Any = self[name]
        field.errors = [*field.errors, message]

    def take(self, error: PortalError) -> None:
        """Put an error of a service on the field that it names, or on the whole form."""
        if error.field and error.field in self:
            self.add_error(error.field, error.message)
        else:
            self.form_errors.append(error.message)
