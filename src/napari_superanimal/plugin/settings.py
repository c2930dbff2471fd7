"""What the user set in napari's preferences, with defaults where napari has none of that."""

from __future__ import annotations

import getpass
import re
from typing import Any

PLUGIN = "napari-superanimal"


def setting(section: str, key: str, default: Any) -> Any:
    """One value of the plugin's preferences page; `default` for a napari before 0.9, which has none."""
    try:
        from napari.settings import get_plugin_settings

        return getattr(getattr(get_plugin_settings(PLUGIN), section), key)
    except (ImportError, AttributeError, KeyError, ValueError):
        return default


def remember(section: str, key: str, value: Any) -> None:
    """Set one value of the plugin's preferences; napari writes it to the user's settings."""
    try:
        from napari.settings import get_plugin_settings

        setattr(getattr(get_plugin_settings(PLUGIN), section), key, value)
    except (ImportError, AttributeError, KeyError, ValueError):
        return


def scorer() -> str:
    """Who labels: the name set by the user, else the account's; letters, digits, dot and hyphen only."""
    given = str(setting("labels", "scorer", "") or "")
    if not given:
        try:
            given = getpass.getuser()
        except (OSError, KeyError, ImportError):
            given = ""
    return re.sub(r"[^\w.-]+", "", given) or "me"


def point_size() -> float:
    """Diameter of points in pixels; 0 means chosen from the animals' size."""
    return float(setting("display", "point_size", 0.0) or 0.0)
