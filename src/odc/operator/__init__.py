"""The operator's commands, `odc`, and the settings that they read."""
