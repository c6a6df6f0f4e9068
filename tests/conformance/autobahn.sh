#!/usr/bin/env bash
# WebSocket conformance: runs the Autobahn TestSuite's fuzzing client (RFC 6455 + RFC 7692)
# against an echo server that is already listening.
#
#   autobahn.sh ws://127.0.0.1:PORT[/path] [--cases '1.*,2.*'] [--exclude '9.*'] [--strict '6.4.3,6.4.4']
#               [--jobs N] [--timeout SECONDS] [--agent NAME] [--out DIR]
#
# By hand: cargo run --release --example echo -- --listen 127.0.0.1:9001
#          tests/conformance/autobahn.sh ws://127.0.0.1:9001 --cases '1.*,2.*,3.*,4.*,5.*,6.*,7.*,10.*' --jobs 2
#
# `--strict` names cases in which NON-STRICT is a failure: in 6.4.3 and 6.4.4 that is a server which notices bad
# UTF-8 only at the end of the frame.
#
# The server must: accept the upgrade at that URL without a subprotocol and without auth; send every
# complete data message back as one message of the same type (text/binary), in order, byte for byte;
# answer pings; take messages of at least 16 MiB (case 9.*); and, for 12.* and 13.*, negotiate
# permessage-deflate (any context-takeover/window-bits offer; declining makes those cases UNIMPLEMENTED).
#
# Needs: bash, python3 with venv, a Python 2.7 interpreter (the suite's own requirement; found in PATH, in
# pyenv, or named by PYTHON27), and PyPI on the first run. The suite is kept in
# ${FANWIRE_TOOLS:-./target/tools}/autobahn. A C compiler is used when there (the suite's accelerators).
# Cases that fail are run once more, alone: the suite lives in real time (it waits one second for a close), and the machine
# may do other things too. What needed it is said.
# Ends with `N passed, M failed`. Exit: 0 all passed, 1 a case failed or did not finish, 2 usage or set-up
# failed, 77 no Python 2.7 on this machine (nothing was run).
set -u
SUITE=25.10.1
ALL='1.* 2.* 3.* 4.* 5.* 6.* 7.* 9.* 10.* 12.1.* 12.2.* 12.3.* 12.4.* 12.5.* 13.1.* 13.2.* 13.3.* 13.4.* 13.5.* 13.6.* 13.7.*'
usage() { sed -n '5,6p' "$0" | sed 's/^# *//' >&2; exit 2; }
die() { echo "autobahn.sh: $*" >&2; exit 2; }

url= cases= exclude= strict= jobs=1 limit=1500 agent=fanwire out=
while [ $# -gt 0 ]; do
  case $1 in
    --cases|--exclude|--strict|--jobs|--timeout|--agent|--out)
      [ $# -ge 2 ] || usage
      case $1 in --cases) cases=$2;; --exclude) exclude=$2;; --strict) strict=$2;; --jobs) jobs=$2;; --timeout) limit=$2;;
                 --agent) agent=$2;; --out) out=$2;; esac; shift 2;;
    ws://*|wss://*) url=$1; shift;;
    *) usage;;
  esac
done
[ -n "$url" ] || usage
case $jobs$limit in *[!0-9]*) usage;; esac
[ "$jobs" -ge 1 ] || usage
command -v python3 >/dev/null || die "python3 is needed"

tools=${FANWIRE_TOOLS:-./target/tools}/autobahn
mkdir -p "$tools" || die "cannot make $tools"
tools=$(cd "$tools" && pwd)
out=${out:-$tools/reports}
mkdir -p "$out" || die "cannot make $out"
out=$(cd "$out" && pwd)
work=$(mktemp -d "$out/run.XXXXXX") || die "cannot write in $out"

declare -A running=()
cleanup() {
  for p in "${!running[@]}"; do kill "$p" 2>/dev/null; done
  for p in "${!running[@]}"; do wait "$p" 2>/dev/null; done
  rm -rf "$work" # moved away by then where the run came to its end
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- the suite -------------------------------------------------------------------------------------------
find_py27() {
  local c
  for c in "${PYTHON27:-}" python2.7 python2 "$HOME"/.pyenv/versions/2.7*/bin/python2.7 \
           "${PYENV_ROOT:-/nonexistent}"/versions/2.7*/bin/python2.7 /usr/local/bin/python2.7 pypy pypy2; do
    [ -n "$c" ] || continue
    # a version manager's shim answers `command -v` though no such interpreter is chosen: run it, take what it is
    c=$("$c" -c 'import sys; assert sys.version_info[:2]==(2,7); sys.stdout.write(sys.executable)' 2>/dev/null) || continue
    [ -n "$c" ] && { echo "$c"; return 0; }
  done
  return 1
}
repeatedly() { # a registry that hiccups is no reason to fail a build
  local pause
  for pause in 2 10 30; do
    "$@" >>"$tools/install.log" 2>&1 && return
    sleep $pause
  done
  "$@" >>"$tools/install.log" 2>&1
}
install_suite() {
  local py27 pins
  py27=$(find_py27) || { echo "autobahn.sh: no Python 2.7 here (set PYTHON27); skipped" >&2; exit 77; }
  echo "autobahn.sh: installing autobahntestsuite $SUITE ..." >&2
  rm -rf "$tools/boot" "$tools/venv" "$tools/venv.ok"
  # the last virtualenv that can make a 2.7 environment
  { python3 -m venv "$tools/boot" && repeatedly "$tools/boot/bin/pip" -q install 'virtualenv==20.21.1' &&
    "$tools/boot/bin/virtualenv" -q -p "$py27" "$tools/venv"; } >"$tools/install.log" 2>&1 ||
  { "$py27" -m pip -q install --target "$tools/boot27" 'virtualenv==20.15.1' &&
    PYTHONPATH="$tools/boot27" "$py27" -m virtualenv -q "$tools/venv"; } >>"$tools/install.log" 2>&1 ||
    { tail -5 "$tools/install.log" >&2; die "no 2.7 environment (see $tools/install.log)"; }
  pins="$tools/pins.txt"
  cat >"$pins" <<'PINS'
setuptools==44.0.0
six==1.16.0
txaio==2.1.0
incremental==16.10.1
typing==3.10.0.0
zope.interface==4.6.0
attrs==21.4.0
constantly==15.1.0
idna==2.10
hyperlink==21.0.0
Automat==22.10.0
PyHamcrest==1.10.1
Twisted==19.10.0
enum34==1.1.10
ipaddress==1.0.23
pycparser==2.21
cffi==1.15.1
cryptography==3.3.2
pyOpenSSL==19.1.0
pyasn1==0.5.1
pyasn1-modules==0.3.0
service_identity==18.1.0
markupsafe==1.1.1
jinja2==2.11.3
Werkzeug==1.0.1
klein==17.10.0
argparse==1.4.0
linecache2==1.0.0
traceback2==1.4.0
unittest2==1.1.0
autobahn==0.10.9
PINS
  local pip="timeout 600 $tools/venv/bin/python -m pip --disable-pip-version-check"
  repeatedly $pip install --no-deps --no-build-isolation -r "$pins" ||
    { tail -5 "$tools/install.log" >&2; die "pip failed (see $tools/install.log)"; }
  repeatedly $pip install --no-deps "autobahntestsuite==$SUITE" ||
    { tail -5 "$tools/install.log" >&2; die "pip failed (see $tools/install.log)"; }
  # accelerators: several times faster cases 9.*; done without where there is no compiler
  $pip install --no-deps wsaccel==0.6.6 ujson==2.0.3 >>"$tools/install.log" 2>&1 ||
    echo "autobahn.sh: no accelerators (no C compiler?): cases 9.* will be slow" >&2
  "$tools/venv/bin/python" "$tools/venv/bin/wstest" -a >/dev/null 2>&1 || die "the suite does not start (see $tools/install.log)"
  echo "$SUITE" >"$tools/venv.ok"
}
exec 9>"$tools/.lock"
if command -v flock >/dev/null; then flock -w 900 9 || die "another installation is under way"; fi
[ "$(cat "$tools/venv.ok" 2>/dev/null)" = "$SUITE" ] || install_suite
exec 9>&-

# --- is anything listening? ------------------------------------------------------------------------------
python3 - "$url" <<'PY' || die "nothing listens at $url"
import socket, sys, time, urllib.parse as u
p = u.urlsplit(sys.argv[1]); port = p.port or (443 if p.scheme == 'wss' else 80)
for i in range(50):
    try: socket.create_connection((p.hostname, port), 2).close(); break
    except OSError: time.sleep(0.1)
else: sys.exit(1)
PY

# --- run, one process a group: what a hung group leaves undone does not take the other results along -------
groups=$ALL
[ -n "$cases" ] && groups=${cases//,/ }
deadline=$((SECONDS + limit))
failed_groups=()
reap() { # waits for one of the running groups
  local p rc
  wait -n -p p "${!running[@]}" 2>/dev/null; rc=$?
  [ -n "${p:-}" ] || return
  [ $rc -eq 0 ] || echo "autobahn.sh: group ${running[$p]}: wstest ended with status $rc" >&2
  unset "running[$p]"
}
n=100 # reports are taken in this order, the last counts
run_groups() { # JOBS GROUP...
  local g d left at_once=$1; shift
  for g in "$@"; do
    n=$((n + 1)); d=$work/g$n; mkdir -p "$d"
    left=$((deadline - SECONDS)); [ $left -gt 0 ] || { echo "autobahn.sh: out of time before $g" >&2; continue; }
    python3 - "$d/spec.json" "$d/report" "$agent" "$url" "$g" "$exclude" <<'PY'
import json, sys
f, out, agent, url, g, ex = sys.argv[1:]
json.dump({"outdir": out, "servers": [{"agent": agent, "url": url, "options": {"version": 18}}], "cases": [g],
           "exclude-cases": [e for e in ex.split(',') if e], "exclude-agent-cases": {}}, open(f, 'w'), indent=1)
PY
    ( cd "$d" && exec timeout -k 5 "$left" "$tools/venv/bin/python" "$tools/venv/bin/wstest" -m fuzzingclient -s spec.json ) >"$d/log" 2>&1 &
    running[$!]=$g
    while [ "${#running[@]}" -ge "$at_once" ]; do reap; done
  done
  while [ "${#running[@]}" -gt 0 ]; do reap; done
}
set -f
run_groups "$jobs" $groups
set +f

# --- what came of it -------------------------------------------------------------------------------------
"$tools/venv/bin/python" - "$work" "$exclude" $(set -f; printf '%s ' $groups) <<'PY2' >"$work/expected.json"
import json, sys
from autobahntestsuite.caseset import CaseSet
from autobahntestsuite.case import Cases, CaseCategories, CaseSubCategories, CaseSetname, CaseBasename
s = CaseSet(CaseSetname, CaseBasename, Cases, CaseCategories, CaseSubCategories)
json.dump(s.parseSpecCases({"cases": sys.argv[3:], "exclude-cases": [e for e in sys.argv[2].split(',') if e]}), sys.stdout)
PY2
cat >"$work/judge.py" <<'PY'
import glob, json, os, sys
work = sys.argv[1]; strict = sys.argv[2].split(','); only_names = len(sys.argv) > 3; got = {}; where = {}
for f in sorted(glob.glob(os.path.join(work, 'g*', 'report', 'index.json'))):
    try: reports = json.load(open(f))
    except ValueError: continue # a group that was ended while it wrote
    for cases in reports.values():
        got.update(cases)
        where.update((case, os.path.dirname(f)) for case in cases)
try: want = json.load(open(os.path.join(work, 'expected.json')))
except ValueError: want = []
key = lambda c: [int(x) for x in c.split('.')]
ok = {'OK', 'NON-STRICT', 'INFORMATIONAL'}; bad = 0; kinds = {}
for c in sorted(set(got) | set(want), key=key):
    r = got.get(c)
    if r is None: k = 'NOT RUN'
    elif r['behavior'] not in ok: k = r['behavior']
    elif r['behaviorClose'] not in ok: k = 'close ' + r['behaviorClose']
    elif c in strict and r['behavior'] != 'OK': k = 'not strict'
    else: k = r['behavior']
    kinds[k] = kinds.get(k, 0) + 1
    if k not in ok and only_names: print(c)
    elif k not in ok:
        bad += 1; why = ''
        if r:
            f = os.path.join(where[c], r['reportfile'])
            if os.path.exists(f):
                j = json.load(open(f)); why = j.get('resultClose' if k.startswith('close') else 'result') or ''
        print('FAIL %-8s %-14s %s' % (c, k, why))
if only_names: sys.exit()
if not got: print('autobahn.sh: no case was run', file=sys.stderr)
secs = [r['duration'] / 1e3 for r in got.values() if 0 <= r['duration'] < 36e5]  # a case that never got going has a clock time here
print(', '.join('%s %d' % kv for kv in sorted(kinds.items())), '| cases took %.1f s' % sum(secs))
print('%d passed, %d failed' % (len(set(got) | set(want)) - bad, bad))
sys.exit(1 if bad or not got else 0)
PY
again=$(python3 "$work/judge.py" "$work" "$strict" names)
if [ -n "$again" ] && [ "$(wc -l <<<"$again")" -le 40 ]; then
  echo "autobahn.sh: once more, alone: ${again//$'\n'/ }" >&2
  run_groups 1 $again
fi
python3 "$work/judge.py" "$work" "$strict"
rc=$?
rm -rf "$out/last"; mv "$work" "$out/last" && echo "reports: ${out/#$PWD\//}/last" >&2
exit $rc
