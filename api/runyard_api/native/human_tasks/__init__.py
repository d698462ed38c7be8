"""Human tasks of the native API: the inbox, answers, one-time links."""
