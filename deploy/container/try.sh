#!/bin/sh
# Makes the file system that deploy/container/Dockerfile describes, without Docker, and runs it the way a container would:
#   deploy/container/try.sh PATH/TO/fanwire
# Needs root, for chroot and another user. Exit status 77: cannot run here.
set -eu

binary=$1
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
[ "$(id -u)" = 0 ] || { echo "chroot needs root"; exit 77; }
root=$(mktemp -d)
pid=
end() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    umount "$root/proc" 2>/dev/null || true
    rm -rf "$root"
}
trap end EXIT INT TERM

say() { echo "container: $*"; }
fail() { echo "container: $*" >&2; exit 1; }

# What the Dockerfile copies, and the C library; the binary must need no others.
mkdir -p "$root/usr/bin" "$root/etc/fanwire" "$root/proc"
cp "$binary" "$root/usr/bin/fanwire"
cp "$here/../fanwire.toml" "$root/etc/fanwire/fanwire.toml"
ldd "$binary" | while read -r name arrow path _; do
    case $name in
        linux-vdso* | statically) continue ;;
        /*) path=$name ;;
        libc.so.* | libm.so.* | libgcc_s.so.* | libpthread.so.* | libdl.so.* | librt.so.*) ;;
        *) fail "$name is not in Debian's slim image" ;;
    esac
    mkdir -p "$root$(dirname "$path")"
    cp -L "$path" "$root$path"
done
chmod -R a+rX "$root"
# Without /proc (a sandbox may forbid to mount it) some of the process metrics are missing, and that is all.
mount -t proc proc "$root/proc" 2>/dev/null || say "no /proc here"

# As USER, ENV, ENTRYPOINT and HEALTHCHECK say, on ports that are free here.
user=$(sed -n 's/^USER //p' "$here/Dockerfile")
environment=$(sed -n 's/^ENV //p' "$here/Dockerfile")
inside() { chroot --userspec="$user" "$root" /usr/bin/fanwire "$@"; }
export "${environment?}"
port=$((20000 + $$ % 10000))
export FANWIRE__LISTENER__0__BIND="0.0.0.0:$port" FANWIRE__ADMIN__BIND="127.0.0.1:$((port + 1))"
# Not by the function: the process itself is wanted, not a shell around it.
chroot --userspec="$user" "$root" /usr/bin/fanwire run >"$root.log" 2>&1 &
pid=$!
waited=0
until inside health --live >/dev/null 2>&1; do
    kill -0 "$pid" 2>/dev/null || { cat "$root.log"; fail "the router ended"; }
    waited=$((waited + 1))
    [ "$waited" -lt 300 ] || { cat "$root.log"; fail "the health check never passed"; }
    sleep 0.2
done
say "healthy as $user, from $(du -sk "$root/usr" | cut -f1) KiB"
[ "$(stat -c %u "/proc/$pid")" = "${user%%:*}" ] || fail "it runs as somebody else than $user"
kill -TERM "$pid"
status=0
wait "$pid" || status=$?
pid=
cat "$root.log"
rm -f "$root.log"
[ "$status" = 0 ] || fail "SIGTERM ended it with status $status"
if inside health --live >/dev/null 2>&1; then
    fail "the health check passes without a router"
fi
say "SIGTERM ended it with status 0, and the health check fails without it"
