#!/bin/bash
# NIXL's own plugins do not load through links: a folder of links for NIXL_PLUGIN_DIR lists them all and loads none.
#
# Seen with: nixl-cu12 1.5.1 (PyPI), Python 3.11, glibc 2.36 (Debian 12).
# What one would expect: NIXL_PLUGIN_DIR replaces the folder of the wheel's plugins, so whoever wants a further plugin
#   beside them makes a folder with links to both, and points the variable there.
# What happens: the agent lists POSIX and UCX, and create_backend() fails with nixlNotFoundError ("unsupported backend").
#   Only at NIXL_LOG_LEVEL=INFO it says why: libfile_utils.so (UCX: libucp-....so) cannot be opened. The libraries are
#   found by RPATH $ORIGIN/.., and for a library that is opened through a link $ORIGIN is the folder of the link. The
#   other way round works: a link to the further plugin inside the wheel's own folder.
# Output seen:
#   own folder: POSIX loads
#   folder of links: POSIX is listed
#   folder of links: nixlNotFoundError
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps nixl-cu12==1.5.1 numpy==2.4.6
packages=$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir "$work/links"
ln -s "$packages"/.nixl_cu12.mesonpy.libs/plugins/libplugin_*.so "$work/links/"
cat > "$work/try.py" <<'PY'
from nixl_cu12._api import nixl_agent, nixl_agent_config

agent = nixl_agent("agent", nixl_agent_config(backends=[]))
print("POSIX is listed" if "POSIX" in agent.get_plugin_list() else "POSIX is not listed")
try:
    agent.create_backend("POSIX")
    print("POSIX loads")
except Exception as error:
    print(type(error).__name__)
PY
own=$("$work/venv/bin/python" "$work/try.py" 2>/dev/null)
links=$(NIXL_PLUGIN_DIR=$work/links "$work/venv/bin/python" "$work/try.py" 2>/dev/null)
sed -n 's/^POSIX loads/own folder: &/p' <<<"$own"
grep -E '^(POSIX|nixl[A-Za-z]*Error)' <<<"$links" | sed 's/^/folder of links: /'
grep -qx 'POSIX loads' <<<"$own" && grep -qx 'POSIX is listed' <<<"$links" && grep -qx 'nixlNotFoundError' <<<"$links"
