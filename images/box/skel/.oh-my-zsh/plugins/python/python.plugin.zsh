alias py=python3 pyserver='python3 -m http.server'
