#!/usr/bin/env python3
"""Starts a program as a hostile environment would: `launch.py [--deny-io-uring] [--nofile N] [--cgroup FOLDER] -- PROGRAM ...`.

--deny-io-uring  io_uring_setup fails with EPERM, as under the default seccomp profile of a container
--nofile N       at most N open files
--cgroup FOLDER  as a member of this control group
"""

import argparse
import ctypes
import errno
import os
import resource
import struct

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW = 0x00050000, 0x7FFF0000
# Classic BPF: load a word, compare and jump, return.
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
IO_URING_SETUP = 425  # the same number on every architecture


def deny_io_uring():
    filters = [
        (LOAD, 0, 0, 0),  # the system call's number
        (JUMP_IF_EQUAL, 0, 1, IO_URING_SETUP),
        (RETURN, 0, 0, SECCOMP_RET_ERRNO | errno.EPERM),
        (RETURN, 0, 0, SECCOMP_RET_ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in filters))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(filters), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0)):
        wide = [argument if not isinstance(argument, int) else ctypes.c_ulong(argument) for argument in arguments[1:]]
        if libc.prctl(arguments[0], *wide) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--deny-io-uring", action="store_true")
    options.add_argument("--nofile", type=int)
    options.add_argument("--cgroup")
    options.add_argument("program", nargs=argparse.REMAINDER)
    options = options.parse_args()
    program = [word for index, word in enumerate(options.program) if index or word != "--"]
    if options.cgroup:
        with open(os.path.join(options.cgroup, "cgroup.procs"), "w") as members:
            members.write(str(os.getpid()))
    if options.nofile:
        resource.setrlimit(resource.RLIMIT_NOFILE, (options.nofile, options.nofile))
    if options.deny_io_uring:
        deny_io_uring()
    os.execvp(program[0], program)


if __name__ == "__main__":
    main()
