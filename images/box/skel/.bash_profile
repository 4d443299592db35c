# Read by bash at login.
[ ! -r ~/.bashrc ] || . ~/.bashrc
