#!/bin/sh
# Makes a Debian or Ubuntu root file system into the base of a box. Runs as root inside that system, once, at build time.
# Everything that is the same in every base image (plain, CUDA) happens here and nowhere else.
# Input: the folder that this script lies in: `packages`, `skel/`, `terminfo`, `apt-get`, and `oh-my-zsh/` if the build
# could fetch it. Repeatable. What a box needs of the
# system in any image, own or custom, is not done here but by `odc-box` at its start.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

missing=
while read -r package; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done < "$here/packages"
if [ -n "$missing" ]; then
    apt-get update -q
    # shellcheck disable=SC2086  # a list of package names
    apt-get install -q -y --no-install-recommends $missing
fi

# The developer: uid 1000, zsh, sudo without a password. The password field is `*`: no password works, keys do.
if ! id dev >/dev/null 2>&1; then
    old=$(getent passwd 1000 | cut -d: -f1)
    [ -z "$old" ] || userdel "$old"
    useradd --uid 1000 --user-group --shell /usr/bin/zsh --home-dir /home/dev --no-create-home dev
fi
usermod --password '*' --shell /usr/bin/zsh dev
install -d -o dev -g dev -m 0755 /home/dev
proxies='http_proxy https_proxy ftp_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY' # for apt, which runs by sudo
printf 'dev ALL=(ALL) NOPASSWD:ALL\nDefaults env_keep += "CCACHE_DIR SSH_AUTH_SOCK %s"\nDefaults !requiretty\n' "$proxies" \
    > /etc/sudoers.d/odc
chmod 0440 /etc/sudoers.d/odc

# Host keys are never part of an image; the machine's identity and names are each box's own.
rm -f /etc/ssh/ssh_host_* /var/lib/dbus/machine-id
: > /etc/machine-id

# Shell files of a new home, and the user's Python: an environment that sees the system's packages and is small enough to
# be copied at the first login; `pip` is the system's, run by the environment's Python, so it installs into the home.
skel=/usr/share/odc/skel
rm -rf "$skel" /home/dev/.venv
install -d -m 0755 "$skel"
cp -a "$here/skel/." "$skel/"
python3 -m venv --system-site-packages --without-pip --symlinks /home/dev/.venv
for name in pip pip3; do
    printf '#!/home/dev/.venv/bin/python\nimport sys\n\nfrom pip._internal.cli.main import main\n\nsys.exit(main())\n' \
        > "/home/dev/.venv/bin/$name"
    chmod 0755 "/home/dev/.venv/bin/$name"
done
mv /home/dev/.venv "$skel/.venv"
chown -R dev:dev "$skel"
# A home without a disk is the image's: it is complete, so that such a box has nothing to copy at its start.
cp -a "$skel/." /home/dev/
install -o dev -g dev -m 0644 /dev/null /home/dev/.odc-home

# The whole of oh-my-zsh, when the build has it: homes find it there, and it is renewed with the image.
rm -rf /usr/share/oh-my-zsh
if [ -r "$here/oh-my-zsh/oh-my-zsh.sh" ]; then
    cp -R "$here/oh-my-zsh" /usr/share/oh-my-zsh
    chown -R root:root /usr/share/oh-my-zsh
    chmod -R u=rwX,go=rX /usr/share/oh-my-zsh
fi

# Terminals that Debian has no entry for. What is unknown here too, odc-box's profile takes for xterm-256color.
tic -x -o /etc/terminfo "$here/terminfo"

# Locales: a program must accept whatever LANG and LC_* its user brings along. The most common ones are complete. glibc
# reads LANGUAGE.utf8 for any territory that it lacks, such as en_DE: every other language is C.UTF-8 under its name.
# `UTF-8` alone is what macOS sends as LC_CTYPE.
for locale in de_DE en_GB en_US es_ES fr_FR ja_JP zh_CN; do echo "$locale.UTF-8 UTF-8"; done > /etc/locale.gen
locale-gen
cut -d_ -f1 /usr/share/i18n/SUPPORTED | grep -E '^[a-z]{2,3}$' | sort -u | while read -r language; do
    ln -sfn C.utf8 "/usr/lib/locale/$language.utf8"
    ln -sfn C.utf8 "/usr/lib/locale/$language"
done
grep -q '^UTF-8' /etc/locale.alias || echo 'UTF-8 C.UTF-8' >> /etc/locale.alias

# Packages are installed at the first try although the image has no lists of them.
install -m 0755 "$here/apt-get" /usr/local/bin/apt-get
ln -sfn apt-get /usr/local/bin/apt

# Nothing asks or greets at login but ODC: no questions to a user who removed their own shell files.
grep -q zsh-newuser-install /etc/zsh/zshenv || printf '\nzsh-newuser-install() { :; }\n' >> /etc/zsh/zshenv
: > /etc/motd
rm -rf /etc/update-motd.d

# Small: pages and translations that nobody reads here, lists that are fetched anew. Folders stay: packages expect them.
find /usr/share/man /usr/share/locale -type f -delete
apt-get clean
find /var/log -type f -delete
rm -rf /var/lib/apt/lists/* /root/.cache
