"""State of installed libraries: captured, compared and put back as their profiles say."""

from isolation_core.contamination.libraries._known import register_library_profile, unregister_library_profile
from isolation_core.contamination.libraries._parts import Part
from isolation_core.contamination.libraries._profile import (
    Place,
    Profile,
    Unit,
    attributes,
    content,
    custom,
    value,
)

__all__ = [
    "Part",
    "Place",
    "Profile",
    "Unit",
    "attributes",
    "content",
    "custom",
    "register_library_profile",
    "unregister_library_profile",
    "value",
]
