PROMPT='%K{blue}%F{black} %n@%m %K{cyan} %~ %k%f $(git_prompt_info)'
ZSH_THEME_GIT_PROMPT_PREFIX="%F{green}"
ZSH_THEME_GIT_PROMPT_SUFFIX="%f "
ZSH_THEME_GIT_PROMPT_DIRTY=" ±"
ZSH_THEME_GIT_PROMPT_CLEAN=""
