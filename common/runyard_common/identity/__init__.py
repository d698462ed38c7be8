"""Who may call: organisations, members, API keys, sign-ins, and what each may do."""
