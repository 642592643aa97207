#!/usr/bin/env python3
"""House rules that a compiler does not check: who may include what, what a core may not name, sizes, doc comments.

layering.py ROOT          prints every violation as "file:line: text"; exit 1 when there is one
layering.py --self-test   feeds each rule something bad; exit 1 when a rule does not notice
"""
import os
import re
import sys
import tempfile

LIBRARIES = ("cluster", "replica", "hyperv")
SKIPPED_FOLDERS = {".git", "build", "out", ".cache", "__pycache__"}
SOURCE_ENDINGS = (".cpp", ".hpp", ".h", ".py", ".sh", ".proto", ".cmake")
LINES_MAX = 800

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
# Not a path inside something longer, such as /proc/self/root or ./work.
MACHINE_PATH = re.compile(r"(?<![\w/.~*}\)-])/(?:" + "wo" + "rk|ro" + r"ot)(?![\w-])")
FOREIGN = re.compile(
    r"^(asio|boost|grpc|grpcpp|google|fmt|yaml-cpp|spdlog|fuse|fuse3|fuse_lowlevel|linux/fuse|sqlite3|nlohmann|CLI)"
    r"([./].*)?$|^(fuse|fuse_lowlevel|windows|sqlite3)\.h$|\.pb\.h$",
    re.IGNORECASE,
)
CORE_FORBIDDEN = (
    (re.compile(r"\bnow\s*\("), "reads a clock"),
    (re.compile(r"\brandom_device\b"), "draws from the system's randomness"),
    (re.compile(r"\bstd::j?thread\b|\bpthread_"), "starts threads"),
    (re.compile(r"\bstd::(?:\w+_)?mutex\b|\bcondition_variable\b"), "locks"),
    (re.compile(r"\b[io]?fstream\b"), "opens files"),
    (re.compile(r"(?<![\w.>])open\s*\("), "opens files"),
    (re.compile(r"(?<![\w.>])socket\s*\("), "opens sockets"),
    (re.compile(r"\bgetenv\b"), "reads the environment"),
    (re.compile(r"\bspdlog\b"), "logs"),
    (re.compile(r"\bco_await\b"), "suspends"),
    (re.compile(r"\bunordered_\w*"), "iterates in an order that differs between systems"),
)
CORE_FORBIDDEN_INCLUDES = {
    "thread", "mutex", "condition_variable", "fstream", "iostream", "random", "unordered_map",
    "unordered_set", "future", "filesystem", "safepair/base/system_time.hpp", "safepair/base/bounded_queue.hpp",
    "safepair/base/unique_fd.hpp",
}
SHELL_FOLDERS = ("io", "store", "doors", "wmi", "libvirt", "service")
CLASS = re.compile(r"^class\s+(?:\[\[\w+\]\]\s+)?(\w+)[^;]*$")


def strip_comments(text):
    """The same lines without comments and without the contents of literals."""
    pattern = re.compile(
        r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.DOTALL)

    def blank(match):
        found = match.group(0)
        # 1'000'000 is no literal.
        if found[0] == "'" and match.start() > 0 and text[match.start() - 1].isalnum():
            return found
        return ("" if found[0] == "/" else '""') + "\n" * found.count("\n")

    return pattern.sub(blank, text)


def allowed_rooms(path):
    """The rooms under <safepair/...> that a file may include; None: every one."""
    for library in LIBRARIES:
        if path.startswith(f"lib{library}/"):
            return {"base", library}
    if path.startswith("libbase/"):
        return {"base"}
    if path.startswith("guard/"):
        return {"base", "guard"}
    if path.startswith("cli/"):
        return {"base", "v1"}
    return None


def check_includes(path, lines, report):
    rooms = allowed_rooms(path)
    is_public = path.startswith("lib") and "/include/" in path
    is_core = "/src/core/" in path
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, target = match.groups()
        room = re.match(r"safepair/(\w+)/", target)
        if room and rooms is not None and room.group(1) not in rooms:
            report(path, number, f"may not include <{target}>: this folder knows {', '.join(sorted(rooms))} only")
        if (is_public or is_core) and FOREIGN.search(target):
            report(path, number, f"may not include {target}: it belongs into a shell")
        if is_public and quote == '"':
            report(path, number, f'a public header may not include "{target}": it is not installed')
        if path.startswith("examples/") and quote == '"':
            report(path, number, f'an example includes installed headers only, not "{target}"')
        if is_core and quote == '"' and target.split("/")[0] in SHELL_FOLDERS:
            report(path, number, f'a core may not include "{target}": arrows never point back')
        if is_core and re.search(r"(^|/)(io|store|doors|wmi|libvirt)/", target) and target.startswith(".."):
            report(path, number, f'a core may not include "{target}": arrows never point back')
        if is_core and target in CORE_FORBIDDEN_INCLUDES:
            report(path, number, f"a core may not include <{target}>")
        if path.startswith("lib") and re.match(r"(\.\./)*(agent|cli|proto|guard)/", target):
            report(path, number, f'a library may not include "{target}"')


def check_core_names(path, code_lines, report):
    if "/src/core/" not in path:
        return
    for number, line in enumerate(code_lines, 1):
        if INCLUDE.match(line):
            continue
        for pattern, harm in CORE_FORBIDDEN:
            match = pattern.search(line)
            if match:
                report(path, number, f"a core may not name '{match.group(0).strip()}': it {harm}")


def check_header(path, lines, code_lines, report):
    if "/include/" not in path or not path.endswith(".hpp"):
        return
    if not any(line.strip() == "#pragma once" for line in lines):
        report(path, 1, "has no #pragma once")
    first_namespace = next((i for i, line in enumerate(lines) if line.startswith("namespace")), len(lines))
    # The paragraph that opens a header may be the comment of its one main class.
    paragraphs = any(line.startswith("///") for line in lines[:first_namespace])
    for number, line in enumerate(code_lines, 1):
        match = CLASS.match(line)
        if not match:
            continue
        above = number - 2
        while above >= 0 and (lines[above].startswith("template") or lines[above].startswith("[[")):
            above -= 1
        if above >= 0 and lines[above].startswith("///"):
            continue
        if paragraphs:
            paragraphs = False
        else:
            report(path, number, f"class {match.group(1)} has no doc comment")


def check_text(path, lines, report):
    for number, line in enumerate(lines, 1):
        if MACHINE_PATH.search(line):
            report(path, number, "names a path of one particular machine")
    if path.endswith(SOURCE_ENDINGS) and len(lines) > LINES_MAX:
        report(path, len(lines), f"has {len(lines)} lines; more than {LINES_MAX} are two ideas")


def check_tree(root):
    violations = []

    def report(path, number, text):
        violations.append(f"{path}:{number}: {text}")

    count = 0
    for folder, subfolders, files in os.walk(root):
        # A folder that a build made, whatever its name, brings its cache along.
        subfolders[:] = sorted(
            name for name in subfolders
            if name not in SKIPPED_FOLDERS and not os.path.exists(os.path.join(folder, name, "CMakeCache.txt")))
        for name in sorted(files):
            full = os.path.join(folder, name)
            path = os.path.relpath(full, root).replace(os.sep, "/")
            try:
                with open(full, encoding="utf-8") as stream:
                    text = stream.read()
            except (UnicodeDecodeError, OSError):
                continue
            count += 1
            lines = text.splitlines()
            check_text(path, lines, report)
            if path.endswith((".cpp", ".hpp", ".h")):
                check_includes(path, lines, report)
                code_lines = strip_comments(text).split("\n")
                check_core_names(path, code_lines, report)
                check_header(path, lines, code_lines, report)
    return count, violations


GOOD = {
    "libcluster/include/safepair/cluster/good.hpp":
        "#pragma once\n#include <vector>\n#include <safepair/base/time.hpp>\n/// Does good.\nclass Good {\n};\n",
    "libcluster/src/core/good.cpp":
        "#include <safepair/cluster/good.hpp>\n// now() in a comment\nconst char* text = \"std::mutex now()\";\n"
        "int f(int now) { return now + 1'000; }\nvoid g(S& s) { s.open(1); }\n",
    "libcluster/src/io/shell.cpp": "#include <mutex>\nauto t = Clock::now();\n",
    "agent/src/all.cpp": "#include <safepair/cluster/good.hpp>\n#include <safepair/replica/x.hpp>\n",
    "docs/paths.md": "See /proc/self/ro" "ot, tree/wo" "rk and /ro" "ots.\n",
}

CORE = "libreplica/src/core/bad.cpp"
BAD = (
    ("sideways include", "libcluster/src/io/bad.cpp", "#include <safepair/replica/store.hpp>\n"),
    ("libbase knows nobody", "libbase/src/bad.cpp", "#include <safepair/cluster/lineage.hpp>\n"),
    ("the CLI speaks gRPC only", "cli/src/bad.cpp", "#include <safepair/cluster/lineage.hpp>\n"),
    ("core includes io", CORE, '#include "io/file.hpp"\n'),
    ("core includes a door", CORE, '#include "../doors/fuse/door.hpp"\n'),
    ("asio in include", "libcluster/include/safepair/cluster/bad.hpp", "#pragma once\n#include <asio.hpp>\n"),
    ("grpc in include", "libcluster/include/safepair/cluster/bad.hpp", "#pragma once\n#include <grpcpp/grpcpp.h>\n"),
    ("windows in include", "libhyperv/include/safepair/hyperv/bad.hpp", "#pragma once\n#include <windows.h>\n"),
    ("fmt in core", CORE, "#include <fmt/format.h>\n"),
    ("fuse in core", CORE, "#include <fuse_lowlevel.h>\n"),
    ("private header in include", "libreplica/include/safepair/replica/bad.hpp", '#pragma once\n#include "core/x.hpp"\n'),
    ("example reaches inside", "examples/bad.cpp", '#include "io/file.hpp"\n'),
    ("library includes the agent", "libcluster/src/io/bad.cpp", '#include "agent/src/module.hpp"\n'),
    ("clock", CORE, "auto t = std::chrono::steady_clock::now();\n"),
    ("clock of ours", CORE, "auto t = base::boot_time_now();\n#include <safepair/base/system_time.hpp>\n"),
    ("randomness", CORE, "std::random_device device;\n"),
    ("thread", CORE, "std::thread t;\n"),
    ("mutex", CORE, "std::mutex m;\n"),
    ("recursive mutex", CORE, "std::recursive_mutex m;\n"),
    ("file stream", CORE, "std::ifstream in(path);\n"),
    ("open", CORE, "int fd = ::open(path, 0);\n"),
    ("socket", CORE, "int fd = socket(1, 2, 3);\n"),
    ("environment", CORE, 'auto* v = std::getenv("A");\n'),
    ("log", CORE, 'spdlog::info("a");\n'),
    ("suspension", CORE, "co_await x;\n"),
    ("unordered", CORE, "std::unordered_map<int, int> m;\n"),
    ("behind a comment on the same line", CORE, "/* harmless */ std::mutex m;  // std\n"),
    ("after a literal with quotes", CORE, "char c = '\"'; std::mutex m; char d = '\"';\n"),
    ("long file", "libreplica/src/io/bad.cpp", "int x;\n" * (LINES_MAX + 1)),
    ("machine path", "docs/bad.md", "Look into /wo" "rk/main.\n"),
    ("machine path at the start", "tests/bad.sh", "/ro" "ot/x\n"),
    ("no pragma once", "libbase/include/safepair/base/bad.hpp", "int x();\n"),
    ("class without a comment", "libbase/include/safepair/base/bad.hpp", "#pragma once\n\nclass Bad {\n};\n"),
    ("second class without a comment", "libbase/include/safepair/base/bad.hpp",
     "#pragma once\n/// Opens.\nnamespace a {\nclass Main {\n};\n\nclass Bad {\n};\n}\n"),
    ("template without a comment", "libbase/include/safepair/base/bad.hpp",
     "#pragma once\n\ntemplate <typename T>\nclass Bad final : public Base {\n};\n"),
)


def violations_of(files):
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            full = os.path.join(root, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as stream:
                stream.write(text)
        return check_tree(root)[1]


def self_test():
    failures = []
    if found := violations_of(GOOD):
        failures.append(f"a good tree is refused: {found}")
    for name, path, text in BAD:
        found = violations_of({**GOOD, path: text})
        if not found or not all(item.startswith(path) for item in found):
            failures.append(f"not noticed: {name} {found}")
    for failure in failures:
        print(failure)
    print(f"{len(BAD)} bad snippets, {len(failures)} failures")
    return 1 if failures else 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    if len(arguments) != 1:
        print(__doc__)
        return 2
    count, violations = check_tree(arguments[0])
    for violation in violations:
        print(violation)
    print(f"{count} files, {len(violations)} violations")
    # An empty tree would pass every rule.
    return 1 if violations or count < 50 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
