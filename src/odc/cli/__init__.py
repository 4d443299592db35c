"""`gpu-dev`, the command line of users, and terminal output that `odc` shares."""
