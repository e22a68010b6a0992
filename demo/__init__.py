"""The demo page: a client of the gateway like any other."""
