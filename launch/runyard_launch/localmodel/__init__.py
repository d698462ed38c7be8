"""A small language model served on this machine, behind the OpenAI chat completions protocol.

It proves the plumbing (streaming, tools, schemas, cancellation, usage) with a real model and no key; its
answers are poor. Where the model cannot be had, a scripted stand-in speaks the same protocol and is named as one.
"""
