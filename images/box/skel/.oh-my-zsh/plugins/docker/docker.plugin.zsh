alias dps='docker ps' dpsa='docker ps -a'
