#include "folder_files.hpp"

#include "../core/limits.hpp"

#include <safepair/base/unique_fd.hpp>

#include <array>
#include <cerrno>
#include <cstdio>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace safepair::hyperv {

namespace {

base::Result<void> sync_directory_of(const std::filesystem::path& path) {
    const auto directory = path.parent_path();
    const base::UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd || ::fsync(fd.get()) != 0) {
        return base::error_from_errno(errno,
                                      "cannot make changes in " + directory.string() + " durable");
    }
    return {};
}

base::Result<void> write_all(const base::UniqueFd& fd,
                             std::string_view content,
                             const std::string& what) {
    while (!content.empty()) {
        const auto count = ::write(fd.get(), content.data(), content.size());
        if (count < 0 && errno != EINTR) {
            return base::error_from_errno(errno, "cannot write " + what);
        }
        content.remove_prefix(static_cast<std::size_t>(count < 0 ? 0 : count));
    }
    return {};
}

/// Best effort: a file of ours with another owner is still right in its content.
void take_after(const base::UniqueFd& fd, const std::filesystem::path& old) {
    struct stat status {};

    if (::stat(old.c_str(), &status) == 0) {
        [[maybe_unused]] const auto owned = ::fchown(fd.get(), status.st_uid, status.st_gid);
        [[maybe_unused]] const auto moded = ::fchmod(fd.get(), status.st_mode & 07777U);
    }
}

}  // namespace

base::Result<std::string> read_file(const std::filesystem::path& path, std::size_t limit) {
    const base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) {
        return errno == ENOENT ? base::error(base::Errc::not_found, path.string())
                               : base::error_from_errno(errno, "cannot open " + path.string());
    }
    std::string content;
    std::array<char, 65536> bytes{};
    for (;;) {
        const auto count = ::read(fd.get(), bytes.data(), bytes.size());
        if (count == 0) {
            return content;
        }
        if (count < 0 && errno != EINTR) {
            return base::error_from_errno(errno, "cannot read " + path.string());
        }
        content.append(bytes.data(), static_cast<std::size_t>(count < 0 ? 0 : count));
        if (content.size() > limit) {
            return base::error(
                base::Errc::limit_reached,
                path.string() + " has more than " + std::to_string(limit) + " bytes");
        }
    }
}

base::Result<void> write_atomically(const std::filesystem::path& path, std::string_view content) {
    auto fresh = path;
    fresh += ".new";
    {
        const base::UniqueFd fd(
            ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
        if (!fd) {
            return base::error_from_errno(errno, "cannot create " + fresh.string());
        }
        take_after(fd, path);
        auto written = write_all(fd, content, fresh.string());
        if (written && ::fsync(fd.get()) != 0) {
            written = base::error_from_errno(errno, "cannot make " + fresh.string() + " durable");
        }
        if (!written) {
            ::unlink(fresh.c_str());
            return written;
        }
    }
    return move_durably(fresh, path);
}

base::Result<void> move_durably(const std::filesystem::path& from,
                                const std::filesystem::path& to) {
    if (::rename(from.c_str(), to.c_str()) != 0) {
        return base::error_from_errno(errno,
                                      "cannot rename " + from.string() + " to " + to.string());
    }
    return sync_directory_of(to);
}

base::Result<void> remove_durably(const std::filesystem::path& path) {
    if (::unlink(path.c_str()) != 0) {
        if (errno == ENOENT) {
            return {};
        }
        return base::error_from_errno(errno, "cannot remove " + path.string());
    }
    return sync_directory_of(path);
}

base::Result<void> make_durable(const std::filesystem::path& path) {
    const base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd || ::fsync(fd.get()) != 0) {
        return base::error_from_errno(errno, "cannot make " + path.string() + " durable");
    }
    return {};
}

std::optional<DiskFact> disk_fact(const std::string& path) {
    struct stat status {};

    if (::stat(path.c_str(), &status) != 0) {
        return std::nullopt;
    }
    constexpr std::int64_t second = 1'000'000'000;
    return DiskFact{path,
                    static_cast<std::uint64_t>(status.st_size),
                    status.st_mtim.tv_sec * second + status.st_mtim.tv_nsec};
}

SaveFiles::SaveFiles(const std::filesystem::path& folder, const std::string& name)
    : state(folder / (name + ".save")),
      record(folder / (name + ".save.disks")),
      part(folder / (name + ".save.part")),
      used(folder / (name + ".save.used")),
      stale(folder / (name + ".save.stale")) {}

SavedFacts saved_facts(const SaveFiles& files) {
    SavedFacts facts;
    if (const auto state = disk_fact(files.state.string())) {
        facts.state_bytes = state->bytes;
    }
    if (const auto text = read_file(files.record, limits::save_record_bytes_max)) {
        if (auto record = parse_save_record(*text)) {
            facts.record = std::move(*record);
            for (const auto& disk : facts.record->disks) {
                if (auto now = disk_fact(disk.path)) {
                    facts.disks.push_back(std::move(*now));
                }
            }
        }
    }
    return facts;
}

}  // namespace safepair::hyperv
