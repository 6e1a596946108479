"""The engine: requests in, steps and pictures out.  It knows no screen."""
