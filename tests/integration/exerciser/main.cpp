// safepair-exerciser: random operations by several processes on a mounted folder, each verified
// against a model folder on a plain file system. Exit 0: everything agreed; 1: a difference, with
// what is needed to repeat it; 2: wrong use.

#include "comparison.hpp"
#include "report.hpp"
#include "shared_blocks.hpp"
#include "tree.hpp"

#include <safepair/base/system_time.hpp>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace safepair::exerciser {

namespace {

namespace fs = std::filesystem;

struct Options {
    std::string mount;
    std::string model;
    std::uint64_t seed = 1;
    std::uint64_t seconds = 0;
    std::uint64_t operations = 0;
    unsigned processes = 4;
    bool spoil = false;
};

std::optional<std::uint64_t> to_number(std::string_view text) {
    if (text.empty() || text.size() > 18) {
        return std::nullopt;
    }
    std::uint64_t value = 0;
    for (const char digit : text) {
        if (digit < '0' || digit > '9') {
            return std::nullopt;
        }
        value = value * 10 + static_cast<std::uint64_t>(digit - '0');
    }
    return value;
}

std::optional<Options> parse(const std::vector<std::string>& arguments) {
    Options options;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const auto& name = arguments[i];
        if (name == "--spoil") {
            options.spoil = true;
            continue;
        }
        if (i + 1 >= arguments.size()) {
            return std::nullopt;
        }
        const auto& value = arguments[++i];
        if (name == "--mount") {
            options.mount = value;
            continue;
        }
        if (name == "--model") {
            options.model = value;
            continue;
        }
        const auto number = to_number(value);
        if (!number) {
            return std::nullopt;
        }
        if (name == "--seed") {
            options.seed = *number;
        } else if (name == "--seconds") {
            options.seconds = *number;
        } else if (name == "--operations") {
            options.operations = *number;
        } else if (name == "--processes") {
            options.processes = static_cast<unsigned>(*number);
        } else {
            return std::nullopt;
        }
    }
    const bool complete = !options.mount.empty() && !options.model.empty() &&
                          (options.seconds > 0) != (options.operations > 0) &&
                          options.processes > 0 && options.processes <= 64;
    return complete ? std::optional(options) : std::nullopt;
}

std::string tree_name(unsigned process) { return "/tree-" + std::to_string(process); }

bool has_user_xattrs(const std::string& directory) {
    if (lsetxattr(directory.c_str(), "user.probe", "1", 1, 0) != 0) {
        return false;
    }
    lremovexattr(directory.c_str(), "user.probe");
    return true;
}

/// Fresh trees and the shared file.
void prepare(const Options& options) {
    std::error_code failed;
    for (const auto& root : {options.mount, options.model}) {
        fs::create_directories(root, failed);
        for (unsigned i = 0; i < options.processes && !failed; ++i) {
            fs::remove_all(root + tree_name(i), failed);
            if (!failed) {
                fs::create_directory(root + tree_name(i), failed);
            }
        }
        if (failed) {
            fail("prepare " + root + ": " + failed.message());
        }
    }
    fs::remove(options.mount + "/shared", failed);
    SharedBlocks::make(options.mount + "/shared");
}

[[noreturn]] void run_process(const Options& options, unsigned process, bool xattrs) {
    place() = {options.seed, process, 0, ""};
    base::Prng seeds(options.seed * 64 + process);
    const auto tree_seed = seeds.next();
    const auto shared_seed = seeds.next();
    Tree tree(options.mount + tree_name(process),
              options.model + tree_name(process),
              tree_seed,
              geteuid() == 0,
              xattrs);
    SharedBlocks shared(options.mount + "/shared", process, shared_seed);
    const auto end = base::boot_time_now() + std::chrono::seconds(options.seconds);
    for (std::uint64_t step = 0;
         options.operations > 0 ? step < options.operations : base::boot_time_now() < end;
         ++step) {
        place().step = step;
        tree.step();
        shared.step();
    }
    tree.finish();
    const auto text = "process " + std::to_string(process) + ": " +
                      std::to_string(place().step + 1) + " steps agreed\n";
    [[maybe_unused]] const auto written = ::write(STDOUT_FILENO, text.data(), text.size());
    _exit(0);
}

/// Flips one byte of the model, which the comparison has to notice.
void spoil(const Options& options) {
    for (const auto& entry : fs::recursive_directory_iterator(options.model)) {
        if (!entry.is_symlink() && entry.is_regular_file() && entry.file_size() > 0) {
            const base::UniqueFd fd(open(entry.path().c_str(), O_RDWR | O_CLOEXEC));
            char byte = 0;
            const auto place_of = static_cast<off_t>(entry.file_size() / 2);
            if (pread(fd.get(), &byte, 1, place_of) == 1) {
                byte = static_cast<char>(byte ^ 1);
                if (pwrite(fd.get(), &byte, 1, place_of) == 1) {
                    return;
                }
            }
        }
    }
    fail("there is no file to spoil");
}

bool run_all(const Options& options, bool xattrs) {
    std::vector<pid_t> children;
    for (unsigned i = 0; i < options.processes; ++i) {
        const pid_t child = fork();
        if (child == 0) {
            run_process(options, i, xattrs);
        }
        if (child < 0) {
            fail("fork: " + errno_text(errno));
        }
        children.push_back(child);
    }
    bool good = true;
    for (const auto child : children) {
        int status = 0;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        if (!WIFEXITED(status)) {
            std::printf("FAILED: a process died of signal %d\n", WTERMSIG(status));
        }
        good = good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    return good;
}

int run(const Options& options) {
    place() = {options.seed, 0, 0, "preparation"};
    std::printf("exerciser: seed %llu, %u processes on %s\n",
                static_cast<unsigned long long>(options.seed),
                options.processes,
                options.mount.c_str());
    std::fflush(stdout);
    umask(022);
    prepare(options);
    const bool xattrs = has_user_xattrs(options.model + tree_name(0));
    if (!xattrs) {
        std::printf("exerciser: the model's file system has no user xattrs; they are left out\n");
        std::fflush(stdout);
    }
    if (!run_all(options, xattrs)) {
        return 1;
    }
    if (options.spoil) {
        spoil(options);
    }
    place().operation = "the final comparison";
    for (unsigned i = 0; i < options.processes; ++i) {
        const auto difference =
            compare_trees(options.mount + tree_name(i), options.model + tree_name(i), xattrs);
        if (!difference.empty()) {
            fail(difference);
        }
    }
    if (const auto fault = SharedBlocks::check_all(options.mount + "/shared"); !fault.empty()) {
        fail(fault);
    }
    std::printf("exerciser: everything agrees\n");
    return 0;
}

}  // namespace

}  // namespace safepair::exerciser

int main(int count, char** values) {
    using namespace safepair::exerciser;
    const auto options = parse({values + 1, values + count});
    if (!options) {
        std::fprintf(stderr,
                     "usage: safepair-exerciser --mount DIR --model DIR [--seed N] (--seconds S | "
                     "--operations K) "
                     "[--processes P] [--spoil]\n");
        return 2;
    }
    return run(*options);
}
