# Loads completion, the plugins named in $plugins and the theme named in $ZSH_THEME.
: ${ZSH:=$HOME/.oh-my-zsh}
: ${ZSH_CUSTOM:=$ZSH/custom}
HISTFILE=${HISTFILE:-$HOME/.zsh_history}
HISTSIZE=50000
SAVEHIST=20000
setopt append_history extended_history hist_ignore_dups hist_ignore_space share_history
setopt auto_cd interactive_comments prompt_subst
bindkey -e
bindkey '^[[A' up-line-or-search
bindkey '^[[B' down-line-or-search
bindkey '^[[H' beginning-of-line
bindkey '^[[F' end-of-line
bindkey '^[[3~' delete-char
alias ls='ls --color=auto' ll='ls -lh' la='ls -lAh' l='ls -lah' grep='grep --color=auto'
autoload -U colors && colors
for _plugin in $plugins; do
    for _home in $ZSH_CUSTOM/plugins/$_plugin $ZSH/plugins/$_plugin; do
        [[ -d $_home ]] && fpath=($_home $fpath) && break
    done
done
# Quietly: on a full disk it cannot keep what it found, and works all the same.
autoload -Uz compinit && compinit -u -d "${ZSH_COMPDUMP:-$HOME/.zcompdump}" 2>/dev/null
zstyle ':completion:*' menu select
zstyle ':completion:*' matcher-list 'm:{a-zA-Z}={A-Za-z}'
git_prompt_info() {
    local ref
    ref=$(git symbolic-ref --short HEAD 2>/dev/null || git rev-parse --short HEAD 2>/dev/null) || return 0
    if [[ -n $(git status --porcelain --ignore-submodules 2>/dev/null | head -1) ]]; then
        echo "$ZSH_THEME_GIT_PROMPT_PREFIX$ref$ZSH_THEME_GIT_PROMPT_DIRTY$ZSH_THEME_GIT_PROMPT_SUFFIX"
    else
        echo "$ZSH_THEME_GIT_PROMPT_PREFIX$ref$ZSH_THEME_GIT_PROMPT_CLEAN$ZSH_THEME_GIT_PROMPT_SUFFIX"
    fi
}
for _plugin in $plugins; do
    for _home in $ZSH_CUSTOM/plugins/$_plugin $ZSH/plugins/$_plugin; do
        [[ -r $_home/$_plugin.plugin.zsh ]] && source $_home/$_plugin.plugin.zsh && break
    done
done
for _home in $ZSH_CUSTOM/themes $ZSH_CUSTOM $ZSH/themes; do
    [[ -n $ZSH_THEME && -r $_home/$ZSH_THEME.zsh-theme ]] && source $_home/$ZSH_THEME.zsh-theme && break
done
unset _plugin _home
