#pragma once

#include <safepair/base/prng.hpp>
#include <safepair/base/unique_fd.hpp>

#include <cstdint>
#include <string>

/// One file that all processes write at the same time, to the same bytes. Each write is a whole
/// block that says who wrote it, for the how-manieth time, and where, filled from that and
/// checksummed; so a block is right exactly when it is one of the writes, whole and in its place,
/// whichever came last.
namespace safepair::exerciser {

class SharedBlocks {
  public:
    /// Makes the file; once, before the processes start.
    static void make(const std::string& path);

    SharedBlocks(std::string path, unsigned process, std::uint64_t seed);

    /// Writes or checks a random block.
    void step();

    /// Every block, after all writers ended. "" when all are right.
    [[nodiscard]] static std::string check_all(const std::string& path);

  private:
    void write_block(std::uint64_t slot);
    void check_block(std::uint64_t slot);

    const std::string path_;
    const unsigned process_;
    base::Prng random_;
    std::uint64_t counter_ = 0;
    base::UniqueFd cached_;
    base::UniqueFd direct_;
};

}  // namespace safepair::exerciser
