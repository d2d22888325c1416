"""Namespaces: a process tree that sees no network, no other process, and of the file system what it needs to read."""

import ctypes
import os
import pathlib
import re
import shutil
from collections.abc import Iterable

# linux/sched.h
_NEW_MOUNT, _NEW_HOST, _NEW_IPC, _NEW_USER, _NEW_PID, _NEW_NET = (
    0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
# sys/mount.h
_READ_ONLY, _NO_SUID, _NO_DEV, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_DETACH = 2
# What a bind mount keeps of the flags of its source: the kernel refuses a remount that would drop them.
_KEPT = {
    os.ST_NOSUID: _NO_SUID,
    os.ST_NODEV: _NO_DEV,
    os.ST_NOEXEC: 8,
    os.ST_NOATIME: 1024,
    os.ST_NODIRATIME: 2048,
    os.ST_RELATIME: 1 << 21,
}
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}  # it has no wrapper in libc

NOBODY = 65534
_LIBRARIES = ("/usr", "/lib", "/lib32", "/lib64", "/nix/store", "/etc/ld.so.cache")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_MAX_INODES = 1024

_libc = ctypes.CDLL(None, use_errno=True)


def unshare() -> None:
    """Moves this process into new namespaces; its next child is the first process of a new pid namespace.

    The program is to run as a user without any right. Root can map two users into a namespace, itself and nobody;
    others can map one, themselves under the name of nobody. A helper that stays outside writes the map.

    Raises:
      OSError: if the system does not allow it.
    """
    read_end, write_end = os.pipe()
    launcher, helper = os.getpid(), os.fork()
    if helper == 0:
        os.close(write_end)
        unshared = os.read(read_end, 1)
        os._exit(_map_users(launcher) if unshared else 0)
    os.close(read_end)
    _check(
        _libc.unshare(_NEW_USER | _NEW_MOUNT | _NEW_PID | _NEW_NET | _NEW_IPC | _NEW_HOST),
        "user namespaces are not allowed",
    )
    os.write(write_end, b"x")
    code = os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1])
    if code:
        raise OSError(code, f"no users can be mapped into a namespace: {os.strerror(code)}")


def _map_users(pid: int) -> int:
    """Writes the maps of users and groups of a process; returns 0, or the number of the error."""
    folder = pathlib.Path(f"/proc/{pid}")
    try:
        if os.geteuid() == 0:
            try:
                for kind in ("uid", "gid"):
                    (folder / f"{kind}_map").write_text(f"0 0 1\n{NOBODY} {NOBODY} 1\n")
                return 0
            except OSError:  # root of a container may have no other user to map
                pass
        (folder / "setgroups").write_text("deny")
        (folder / "uid_map").write_text(f"{NOBODY} {os.geteuid()} 1\n")
        (folder / "gid_map").write_text(f"{NOBODY} {os.getegid()} 1\n")
    except OSError as error:
        return error.errno or 1
    return 0


def build_root(folder: pathlib.Path, visible: Iterable[str], box_bytes: int) -> pathlib.Path:
    """Makes a root that holds what is needed to run Python, read-only, and a box in memory; then goes there.

    Args:
      folder: with `root`, an empty folder, and `box`, whose files are copied.
      visible: what the program may read besides the system's libraries.
      box_bytes: room for files in the box.

    Returns:
      The box, the only place where the program can write; it vanishes with the last process.

    Raises:
      OSError: if the system does not allow it.
    """
    pathlib.Path("/proc/sys/user/max_user_namespaces").write_text("0")  # none within this one: no rights to regain
    root = folder / "root"
    _mount("none", pathlib.Path("/"), None, _RECURSIVE | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", _NO_SUID | _NO_DEV, "size=1m,mode=755")
    for path in (*_LIBRARIES, *_DEVICES, *visible):
        _show(path, root)
    box = root / "box"
    box.mkdir()
    _mount("tmpfs", box, "tmpfs", _NO_SUID | _NO_DEV, f"size={box_bytes},nr_inodes={_MAX_INODES},mode=700")
    for path in (folder / "box").iterdir():
        shutil.copyfile(path, box / path.name)
    if os.geteuid() == 0:
        for path in (box, *box.iterdir()):
            os.chown(path, NOBODY, NOBODY)
    _mount("none", root, None, _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEV)
    _pivot(root)
    return pathlib.Path("/box")


def _show(path: str, root: pathlib.Path) -> None:
    """Makes a path of the machine visible below `root`, where it exists and is not there yet."""
    target = root / path.lstrip("/")
    if not os.path.exists(path) or target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.islink(path):
        target.symlink_to(os.readlink(path))
        return
    if os.path.isdir(path):
        target.mkdir()
    else:
        target.touch()
    _mount(path, target, None, _BIND | _RECURSIVE)
    for mounted in _mounts_below(target):
        flags = os.statvfs(mounted).f_flag
        kept = sum(mount_flag for flag, mount_flag in _KEPT.items() if flags & flag)
        _mount("none", mounted, None, _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | kept)


def _mounts_below(target: pathlib.Path) -> list[pathlib.Path]:
    """Returns `target` and every mount that came with it."""
    lines = os.fsdecode(pathlib.Path("/proc/self/mountinfo").read_bytes()).splitlines()
    places = {re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), line.split(" ")[4]) for line in lines}
    return [path for path in map(pathlib.Path, sorted(places)) if path == target or target in path.parents]


def _pivot(root: pathlib.Path) -> None:
    """Makes `root` the root, and lets go of the old one."""
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(f"sandboxes are not known on {os.uname().machine} machines")
    os.chdir(root)
    _check(_libc.syscall(number, b".", b"."), "the root cannot be changed")  # the old one now lies over the new one
    _check(_libc.umount2(b".", _DETACH), "the old root cannot be left")
    os.chdir("/")


def _mount(source: str, target: pathlib.Path, kind: str | None, flags: int, options: str = "") -> None:
    arguments = (source.encode(), os.fsencode(target), kind.encode() if kind else None)
    _check(_libc.mount(*arguments, ctypes.c_ulong(flags), options.encode()), f"{source} cannot be mounted on {target}")


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
