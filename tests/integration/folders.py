"""What "both copies are identical" means: type, size, mode, owner, xattrs, links, mtime and every byte."""
import os
import stat
from pathlib import Path

OURS = ".safepair"
CHUNK = 1 << 20


def data_directory(folder):
    """Where the bytes of a replicated folder are, seen past its mount: the hidden sibling while in service."""
    folder = Path(folder)
    hidden = folder.parent / f".{folder.name}.safepair"
    return hidden if hidden.is_dir() else folder


def kept_xattrs(path):
    values = {}
    for name in os.listxattr(path, follow_symlinks=False):
        if not name.startswith("trusted.safepair."):
            values[name] = os.getxattr(path, name, follow_symlinks=False)
    return values


def describe(path):
    """Everything of one object that is compared, but for its bytes."""
    info = os.lstat(path)
    kind = stat.S_IFMT(info.st_mode)
    entry = {"type": oct(kind), "mode": oct(stat.S_IMODE(info.st_mode)), "owner": f"{info.st_uid}:{info.st_gid}",
             "mtime": info.st_mtime_ns, "xattrs": kept_xattrs(path)}
    if stat.S_ISREG(info.st_mode):
        entry["size"] = info.st_size
    elif stat.S_ISLNK(info.st_mode):
        entry["target"] = os.readlink(path)
    elif stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
        entry["device"] = info.st_rdev
    return entry, info


def read_tree(root):
    """{relative path: description}; hard links are described by the set of their names."""
    root = Path(root)
    tree = {}
    names = {}
    pending = [root]
    while pending:
        directory = pending.pop()
        for item in os.scandir(directory):
            path = Path(item.path)
            relative = str(path.relative_to(root))
            if relative == OURS:
                continue
            entry, info = describe(path)
            tree[relative] = entry
            if stat.S_ISDIR(info.st_mode):
                pending.append(path)
            else:
                names.setdefault(info.st_ino, []).append(relative)
    for together in names.values():
        for name in together:
            tree[name]["names"] = sorted(together)
    entry, _ = describe(root)
    # Our own directory is made in it at another time on each node.
    del entry["mtime"]
    tree["."] = entry
    return tree


def first_difference(one, other):
    """Offset of the first byte that differs, None when the files are equal."""
    with open(one, "rb") as left, open(other, "rb") as right:
        at = 0
        while True:
            a, b = left.read(CHUNK), right.read(CHUNK)
            if a != b:
                for i, (x, y) in enumerate(zip(a, b)):
                    if x != y:
                        return at + i
                return at + min(len(a), len(b))
            if not a:
                return None
            at += len(a)


def compare(one, other):
    """Differences between two copies, as lines for people; none when they are identical."""
    one, other = Path(one), Path(other)
    left, right = read_tree(one), read_tree(other)
    differences = [f"{name}: only in {one}" for name in sorted(left.keys() - right.keys())]
    differences += [f"{name}: only in {other}" for name in sorted(right.keys() - left.keys())]
    for name in sorted(left.keys() & right.keys()):
        a, b = left[name], right[name]
        for field in sorted(a.keys() | b.keys()):
            if a.get(field) != b.get(field):
                differences.append(f"{name}: {field} {a.get(field)} in {one}, {b.get(field)} in {other}")
        if "size" in a and "size" in b:
            at = first_difference(one / name, other / name)
            if at is not None:
                differences.append(f"{name}: bytes differ from offset {at} on")
    return differences
