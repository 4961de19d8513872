"""For all tests: a drawn example may take as long as it needs, since machines are busy."""

from hypothesis import settings

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
