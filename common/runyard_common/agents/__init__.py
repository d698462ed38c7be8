"""Agents: manifests, versions, tags, drafts and the tools they may use."""
