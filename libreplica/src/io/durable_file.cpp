#include "io/durable_file.hpp"

#include "io/block_digest.hpp"
#include "store/system_call.hpp"

#include <safepair/base/bytes.hpp>
#include <safepair/base/unique_fd.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace safepair::replica {

namespace {

constexpr std::uint32_t format_version = 1;
constexpr std::size_t magic_bytes = 8;

base::Result<void> flush_directory_of(const std::filesystem::path& file) {
    const auto directory = file.has_parent_path() ? file.parent_path() : ".";
    const base::UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd || fsync(fd.get()) != 0) {
        return errno_error("flush " + directory.string());
    }
    return {};
}

base::Result<void> write_all(int fd, std::span<const std::byte> bytes, const std::string& name) {
    while (!bytes.empty()) {
        const auto put = ::write(fd, bytes.data(), bytes.size());
        if (put < 0 && errno != EINTR) {
            return errno_error("write " + name);
        }
        bytes = bytes.subspan(put < 0 ? 0 : static_cast<std::size_t>(put));
    }
    return {};
}

base::Error corrupt(const char* what) { return base::error(base::Errc::corrupt, what); }

}  // namespace

base::Result<void> replace_file(const std::filesystem::path& file,
                                std::span<const std::byte> bytes) {
    auto fresh = file;
    fresh += ".new";
    base::UniqueFd fd(
        ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd) {
        return errno_error("create " + fresh.string());
    }
    SAFEPAIR_CHECK(write_all(fd.get(), bytes, fresh.string()));
    if (fsync(fd.get()) != 0) {
        return errno_error("flush " + fresh.string());
    }
    if (::rename(fresh.c_str(), file.c_str()) != 0) {
        return errno_error("rename " + fresh.string() + " to " + file.filename().string());
    }
    return flush_directory_of(file);
}

base::Result<std::optional<std::vector<std::byte>>> read_whole_file(
    const std::filesystem::path& file) {
    const base::UniqueFd fd(::open(file.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) {
        if (errno == ENOENT) {
            return std::optional<std::vector<std::byte>>();
        }
        return errno_error("open " + file.string());
    }

    struct stat status {};

    if (fstat(fd.get(), &status) != 0) {
        return errno_error("stat " + file.string());
    }
    std::vector<std::byte> bytes(static_cast<std::size_t>(status.st_size));
    std::size_t done = 0;
    while (done < bytes.size()) {
        const auto got = ::read(fd.get(), bytes.data() + done, bytes.size() - done);
        if (got < 0 && errno != EINTR) {
            return errno_error("read " + file.string());
        }
        if (got == 0) {
            break;
        }
        done += got < 0 ? 0 : static_cast<std::size_t>(got);
    }
    bytes.resize(done);
    return std::optional(std::move(bytes));
}

base::Result<void> remove_file(const std::filesystem::path& file) {
    if (::unlink(file.c_str()) != 0) {
        if (errno == ENOENT) {
            return {};
        }
        return errno_error("remove " + file.string());
    }
    return flush_directory_of(file);
}

std::vector<std::byte> seal(std::string_view magic,
                            base::GenerationId folder,
                            std::span<const std::byte> body) {
    SAFEPAIR_ASSERT(magic.size() == magic_bytes, "a magic has 8 bytes");
    base::ByteWriter writer;
    writer.raw(std::as_bytes(std::span(magic.data(), magic.size())));
    writer.u32(format_version);
    writer.id(folder.bytes);
    writer.u64(body.size());
    writer.raw(body);
    writer.id(digest_of(writer.bytes()));
    return writer.take();
}

base::Result<std::vector<std::byte>> unseal(std::string_view magic,
                                            base::GenerationId folder,
                                            std::span<const std::byte> bytes) {
    base::ByteReader reader(bytes);
    const auto start = reader.raw(magic_bytes);
    if (!reader.ok() ||
        !std::ranges::equal(start, std::as_bytes(std::span(magic.data(), magic.size())))) {
        return corrupt("not a file of this kind");
    }
    const auto version = reader.u32();
    const base::GenerationId found_folder{reader.id()};
    const auto length = reader.u64();
    if (!reader.ok() || length > reader.remaining()) {
        return corrupt("cut off");
    }
    const auto body = reader.raw(static_cast<std::size_t>(length));
    const auto covered = bytes.first(bytes.size() - reader.remaining());
    const Digest checksum = reader.id();
    if (!reader.finished() || checksum != digest_of(covered)) {
        return corrupt("damaged");
    }
    if (version != format_version) {
        return corrupt("written by another version");
    }
    if (found_folder != folder) {
        return corrupt("belongs to another folder");
    }
    return std::vector<std::byte>(body.begin(), body.end());
}

}  // namespace safepair::replica
