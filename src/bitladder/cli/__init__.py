"""The command line: one file a command, and how a command's configuration is composed and checked.

Nothing here imports torch, Lightning or Hydra until a command needs it.
"""
