"""WSGI entry: any WSGI server runs ``app:app``."""

from portal.core.config import Settings
from portal.main import create_app

app = create_app(Settings.from_env())
