# Loads oh-my-zsh from the image of the box, or where the image lacks it, does the most important of that itself: completion,
# the plugins named in $plugins and the theme named in $ZSH_THEME.
: ${ZSH:=$HOME/.oh-my-zsh}
: ${ZSH_CUSTOM:=$ZSH/custom}
if [[ $ZSH == $HOME/.oh-my-zsh && -r /usr/share/oh-my-zsh/oh-my-zsh.sh ]]; then
    _own_theme=$ZSH/themes/$ZSH_THEME.zsh-theme
    ZSH=/usr/share/oh-my-zsh
    zstyle ':omz:update' mode disabled # it is renewed with the image
    if [[ -e $ZSH/themes/$ZSH_THEME.zsh-theme || ! -e $_own_theme ]]; then
        unset _own_theme
        source $ZSH/oh-my-zsh.sh
    else # a theme that was put next to ours, and not into custom/
        ZSH_THEME= source $ZSH/oh-my-zsh.sh
        source $_own_theme
        unset _own_theme
    fi
    return
fi
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
_missing=()
for _plugin in $plugins; do
    for _home in $ZSH_CUSTOM/plugins/$_plugin $ZSH/plugins/$_plugin ''; do
        if [[ -n $_home && -r $_home/$_plugin.plugin.zsh ]]; then
            source $_home/$_plugin.plugin.zsh
            break
        fi
        [[ -z $_home || ! -r $_home/_$_plugin ]] || break # completions only
    done
    [[ -n $_home ]] || _missing+=("plugin $_plugin")
done
if [[ -n $ZSH_THEME ]]; then
    for _home in $ZSH_CUSTOM/themes $ZSH_CUSTOM $ZSH/themes ''; do
        [[ -n $_home && -r $_home/$ZSH_THEME.zsh-theme ]] || continue
        source $_home/$ZSH_THEME.zsh-theme
        break
    done
    if [[ -z $_home ]]; then
        _missing+=("theme $ZSH_THEME")
        [[ ! -r $ZSH/themes/robbyrussell.zsh-theme ]] || source $ZSH/themes/robbyrussell.zsh-theme
    fi
fi
# Said once for each set of them, and not in every shell.
_told=${XDG_CACHE_HOME:-$HOME/.cache}/odc-zsh-missing
if [[ -o interactive && $#_missing -gt 0 && "$(cat $_told 2>/dev/null)" != "$_missing" ]]; then
    print -u2 -r -- "zsh: not found: ${(j:, :)_missing}. The image of this box has a small loader in place of oh-my-zsh, with"
    print -u2 -r -- "  themes ${(j:, :)${(f)"$(print -l $ZSH/themes/*.zsh-theme(N:t:r))"}}; plugins ${(j:, :)${(f)"$(print -l $ZSH/plugins/*(N:t))"}}."
    print -u2 -r -- "  All of it for every box: your operator, by odc image build --fresh. For your own home:"
    print -u2 -r -- "  rm -r ~/.oh-my-zsh && git clone --depth 1 https://github.com/ohmyzsh/ohmyzsh.git ~/.oh-my-zsh"
    mkdir -p ${_told:h} && print -r -- "$_missing" 2>/dev/null > $_told
fi
unset _plugin _home _missing _told
