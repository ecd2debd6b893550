"""What every test shares: how Hypothesis looks for counterexamples."""

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None)  # the same examples on every run
settings.register_profile("desk", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "desk")
