"""The built-in profile: five health tables and their synthetic rows."""

from batchbench.profile.synthetic import SyntheticRows, synthetic
from batchbench.profile.tables import PROFILES, Profile, ProfileColumn

__all__ = ["PROFILES", "Profile", "ProfileColumn", "SyntheticRows", "synthetic"]
