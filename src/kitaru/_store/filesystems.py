"""Which kind of file system a path lies on, from the kernel's list of mounts.

Text in, answer out; reading the list is one line at the bottom. Linux only:
macOS has no such list without starting a program, so there a network file
system is not noticed, and the documentation says so.
"""

from __future__ import annotations

import os
import re

# Locks and shared memory of a WAL database do not work between the machines
# (or between host and guest) that share these.
_NETWORK = re.compile(
    r"nfs\d*|cifs|smb.*|9p|fuse.*|virtiofs|afs|ceph|lustre|gpfs|beegfs.*|glusterfs|ncpfs|vboxsf|prl_fs"
)

_EPHEMERAL = {
    "overlay": "a container's own layer: it goes when the container goes",
    "aufs": "a container's own layer: it goes when the container goes",
    "tmpfs": "memory: it goes when the machine restarts",
    "ramfs": "memory: it goes when the machine restarts",
}

_ESCAPED = re.compile(r"\\([0-7]{3})")


def kind_of(path: str, mountinfo: str) -> str | None:
    """The file system type that holds ``path`` (absolute, links resolved); None if unknown.

    ``mountinfo`` is in the format of proc(5). The longest mount point wins, and
    of two equal ones the later, which covers the earlier.

    >>> mounts = "27 1 254:0 / / rw - ext4 /dev/vda rw\\n30 27 0:9 / /home rw - nfs4 s:/ rw"
    >>> kind_of("/home/me", mounts)
    'nfs4'
    """
    best, kind = -1, None
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = _unescaped(fields[4])
        inside = path == point or path.startswith(os.path.join(point, ""))
        if inside and len(point) >= best:
            best, kind = len(point), after.split(" ")[0]
    return kind


def is_network(kind: str) -> bool:
    """Whether a store on this kind of file system would be corrupted or never locked.

    >>> [is_network(kind) for kind in ("nfs4", "fuse.sshfs", "ext4")]
    [True, True, False]
    """
    return _NETWORK.fullmatch(kind) is not None


def why_ephemeral(kind: str) -> str | None:
    """Why what is written here does not last; None if it does."""
    return _EPHEMERAL.get(kind)


def kind_here(path: str) -> str | None:
    """:func:`kind_of` for this process; None where the system does not say."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return kind_of(os.path.realpath(path), file.read())
    except OSError:
        return None


def _unescaped(point: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), point)
