"""What holds for every test."""

from hypothesis import settings

# A machine under load is no failure; what is slow is said by the benches.
settings.register_profile("sparsight", deadline=None)
settings.load_profile("sparsight")
