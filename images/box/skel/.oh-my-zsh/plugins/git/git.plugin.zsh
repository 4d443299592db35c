alias g=git ga='git add' gaa='git add --all' gb='git branch' gc='git commit --verbose' gco='git checkout' gd='git diff' \
    gf='git fetch' gl='git pull' glog='git log --oneline --decorate --graph' gp='git push' gst='git status' gsw='git switch'
