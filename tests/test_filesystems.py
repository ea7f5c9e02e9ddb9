from __future__ import annotations

import sys

import pytest

from kitaru._store.filesystems import is_network, kind_here, kind_of, why_ephemeral

MOUNTS = """\
22 1 0:21 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=/a - b
23 22 0:5 / /proc rw - proc proc rw
30 22 8:1 / /home rw,relatime master:1 propagate_from:2 - ext4 /dev/sda1 rw
31 30 0:40 / /home/me/shared\\040docs rw - fuse.sshfs me@host:/ rw
32 30 0:41 / /home/me rw - nfs4 server:/me rw
33 30 0:42 / /home/me rw - ext4 /dev/sdb1 rw
34 22 0:43 / /mnt/c rw - 9p C: rw
garbage
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "overlay"),
        ("/srv/app", "overlay"),
        ("/home", "ext4"),
        ("/homeless", "overlay"),
        ("/home/you/project", "ext4"),
        ("/home/me/project", "ext4"),
        ("/home/me/shared docs/project", "fuse.sshfs"),
        ("/mnt/c/Users", "9p"),
        ("/mnt/cd", "overlay"),
    ],
)
def test_the_longest_and_last_mount_point_decides(path: str, kind: str) -> None:
    assert kind_of(path, MOUNTS) == kind


def test_without_a_mount_list_nothing_is_known() -> None:
    assert kind_of("/", "") is None


@pytest.mark.parametrize(
    "kind",
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "fuse",
        "fuseblk",
        "fuse.sshfs",
        "virtiofs",
        "ceph",
    ],
)
def test_network_file_systems_are_known(kind: str) -> None:
    assert is_network(kind)


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs", "apfs", "f2fs", "nfsd-like"]
)
def test_local_file_systems_are_not_taken_for_network(kind: str) -> None:
    assert not is_network(kind)


def test_what_does_not_last_is_said() -> None:
    assert "memory" in (why_ephemeral("tmpfs") or "")
    assert "container" in (why_ephemeral("overlay") or "")
    assert why_ephemeral("ext4") is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists its mounts in a file")
def test_the_kernels_own_list_is_understood() -> None:
    assert kind_here("/proc/self") == "proc"
    assert kind_here("/proc/not/there/yet") == "proc"
