"""Input of looking for kept texts and of asking to read them."""

from wtforms import SelectMultipleField, StringField, TextAreaField
from wtforms.widgets import CheckboxInput, ListWidget

from portal.web.forms import PortalForm


class SearchForm(PortalForm):
    """Words that texts hold."""

    words = StringField("Words", description="All of them; two characters or more each. Signs on letters do not count.")


class RevealForm(PortalForm):
    """Which texts, and why."""

    text = SelectMultipleField(
        "Texts", widget=ListWidget(prefix_label=False), option_widget=CheckboxInput(), validate_choice=False
    )
    reason = TextAreaField(
        "Why you have to read them",
        description="It is kept with your name. The person can see how many of their texts were read.",
        render_kw={"rows": 3},
    )
