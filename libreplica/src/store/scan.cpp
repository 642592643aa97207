#include <cerrno>
#include <mutex>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/posix_store.hpp"
#include "store/system_call.hpp"

namespace safepair::replica {

namespace {

/// The caches and the held files need more descriptors than the soft limit of 1024 that most services start with.
void raise_descriptor_limit() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

struct CloseDirectory {
    void operator()(DIR* directory) const noexcept { closedir(directory); }
};

base::Result<std::vector<std::string>> names_in(base::UniqueFd fd) {
    const std::unique_ptr<DIR, CloseDirectory> directory(fdopendir(fd.get()));
    if (!directory) {
        return errno_error("open directory");
    }
    [[maybe_unused]] const int now_owned_by_directory = fd.release();
    std::vector<std::string> found;
    for (;;) {
        errno = 0;
        // One thread uses this stream; readdir_r is deprecated.
        const dirent* entry = readdir(directory.get());  // NOLINT(concurrency-mt-unsafe)
        if (entry == nullptr) {
            break;
        }
        const std::string_view name(entry->d_name);
        if (name != "." && name != "..") {
            found.emplace_back(name);
        }
    }
    if (errno != 0) {
        return errno_error("read directory");
    }
    return found;
}

/// Makes `name` below `directory` unless it is there, and opens it.
base::Result<base::UniqueFd> own_folder(int directory, const char* name) {
    if (mkdirat(directory, name, 0700) != 0 && errno != EEXIST) {
        return errno_error(std::string("make ") + name);
    }
    base::UniqueFd fd(openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) {
        return errno_error(std::string("open ") + name);
    }
    return fd;
}

}  // namespace

base::Result<void> PosixStore::open(const std::filesystem::path& directory,
                                    std::vector<FileId>* fresh) {
    raise_descriptor_limit();
    root_ = base::UniqueFd(
        ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!root_) {
        return errno_error("open " + directory.string());
    }
    SAFEPAIR_TRY(const auto facts, object_facts(root_.get(), ""));
    device_ = facts.device;
    SAFEPAIR_TRY(const auto own, own_folder(root_.get(), std::string(own_directory).c_str()));
    SAFEPAIR_TRY(stage_, own_folder(own.get(), "stage"));
    SAFEPAIR_CHECK(clear_stage());
    if (auto scanned = scan(fresh); !scanned) {
        return scanned.error().within(directory.string());
    }
    return {};
}

base::Result<void> PosixStore::scan(std::vector<FileId>* fresh) {
    const std::unique_lock lock(mutex_);
    std::vector<FileId> pending{root_file};
    while (!pending.empty()) {
        const auto next = pending.back();
        pending.pop_back();
        if (auto done = scan_directory(next, pending, fresh); !done) {
            return done.error().within(catalog_.path_of(next));
        }
    }
    return {};
}

base::Result<void> PosixStore::scan_directory(FileId directory,
                                              std::vector<FileId>& pending,
                                              std::vector<FileId>* fresh) {
    SAFEPAIR_TRY(const auto descriptor, locked_directory(directory));
    SAFEPAIR_TRY(auto readable, open_at(descriptor->get(), ".", O_RDONLY | O_DIRECTORY));
    SAFEPAIR_TRY(const auto found, names_in(std::move(readable)));
    for (const auto& name : found) {
        if (directory == root_file && name == own_directory) {
            continue;
        }
        if (auto done = scan_name(directory, descriptor->get(), name, pending, fresh); !done) {
            return done.error().within(name);
        }
    }
    return {};
}

base::Result<void> PosixStore::scan_name(FileId directory,
                                         int directory_fd,
                                         const std::string& name,
                                         std::vector<FileId>& pending,
                                         std::vector<FileId>* fresh) {
    SAFEPAIR_TRY(const auto facts, object_facts(directory_fd, name));
    if (facts.device != device_) {
        return base::error_from_errno(EXDEV, "another file system is mounted here");
    }
    const auto path = descriptor_path(directory_fd, name);
    SAFEPAIR_TRY(const auto recorded, read_identity(path, facts));
    FileId file;
    if (recorded && (catalog_.find(*recorded) == nullptr || facts.type != NodeType::directory)) {
        // Inode and birth fit, so an id seen before is this very file by another name.
        file = *recorded;
    } else {
        file = base::random_id<FileId>();
        SAFEPAIR_CHECK(write_identity(path, file, facts));
        if (fresh != nullptr) {
            fresh->push_back(file);
        }
    }
    if (catalog_.find(file) == nullptr) {
        catalog_.add(file, facts.type);
        if (facts.type == NodeType::directory) {
            pending.push_back(file);
        }
    }
    catalog_.add_name(file, directory, name);
    return {};
}

base::Result<std::unique_ptr<Store>> open_posix_store(const std::filesystem::path& directory,
                                                      std::vector<FileId>* fresh) {
    auto store = std::make_unique<PosixStore>();
    SAFEPAIR_CHECK(store->open(directory, fresh));
    return std::unique_ptr<Store>(std::move(store));
}

}  // namespace safepair::replica
