"""The operator's commands, `odc`: what each does, and the settings that they read."""
