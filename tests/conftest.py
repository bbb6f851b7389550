"""Settings for all tests: a machine that is busy makes tests slow, not wrong."""

from hypothesis import settings

settings.register_profile("firstlight", deadline=None)
settings.load_profile("firstlight")
