"""Input of the release desk."""

from collections.abc import Sequence

from wtforms import SelectField, SelectMultipleField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired
from wtforms.validators import Optional as Omittable
from wtforms.widgets import CheckboxInput, ListWidget

from portal.web.forms import PortalForm


class ReleaseForm(PortalForm):
    """Under which license a commit is put before readers, and which risky weights are let in."""

    license = SelectField("License", validators=[InputRequired("Choose the license that readers have to sign.")])
    pickles = SelectMultipleField(
        "Weights that can run code when they are loaded",
        validators=[Omittable()],
        widget=ListWidget(prefix_label=False),
        option_widget=CheckboxInput(),
        description="Better convert them to safetensors. Tick each file that is to be released all the same.",
    )

    def offer(self, licenses: Sequence[tuple[str, str]], pickles: Sequence[str]) -> None:
        """Let these licenses and files be chosen."""
        self.license.choices = [SelectChoice(slug, words) for slug, words in licenses]
        self.pickles.choices = [SelectChoice(path, path) for path in pickles]
