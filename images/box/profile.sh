# The environment of a box, for every shell and every kind of login. Values are data: nothing here is evaluated.
if [ -z "${ODC_PROFILE:-}" ] && [ -r /run/odc/env ]; then
    while IFS= read -r _odc_line || [ -n "$_odc_line" ]; do
        case "$_odc_line" in
            [A-Za-z_]*=*) export "${_odc_line%%=*}=${_odc_line#*=}" ;;
        esac
    done < /run/odc/env
    unset _odc_line
    export ODC_PROFILE=1
    export PATH="$HOME/.local/bin:$HOME/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin${CUDA_HOME:+:$CUDA_HOME/bin}"
    [ ! -x "$HOME/.venv/bin/python" ] || export VIRTUAL_ENV="$HOME/.venv" VIRTUAL_ENV_DISABLE_PROMPT=1
    export LANG="${LANG:-C.UTF-8}"
fi
case $- in
    *i*)
        if [ -n "${SSH_TTY:-}" ] && [ -z "${ODC_GREETED:-}" ] && [ -x /usr/local/bin/odc-box ]; then
            export ODC_GREETED=1
            /usr/local/bin/odc-box motd
        fi
        ;;
esac
