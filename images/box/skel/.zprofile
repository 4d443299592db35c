# Read by zsh at login, before .zshrc.
